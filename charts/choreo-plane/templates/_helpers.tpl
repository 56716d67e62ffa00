{{- define "plane.name" -}}
{{ .Release.Name }}-plane
{{- end }}

{{- define "plane.labels" -}}
app.kubernetes.io/name: choreo-plane
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: choreo
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
