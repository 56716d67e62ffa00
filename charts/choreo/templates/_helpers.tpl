{{- define "choreo.name" -}}
{{ .Release.Name }}-manager
{{- end }}

{{- define "choreo.selector" -}}
app.kubernetes.io/name: choreo-manager
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "choreo.labels" -}}
{{ include "choreo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: choreo
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
