//! Media types with parameters, as they stand in `Accept` and `Content-Type`.

/// One media type, for example `application/json;as=Table;v=v1;g=meta.k8s.io`.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaType {
    /// `type/subtype` in lower case.
    pub name: String,
    params: Vec<(String, String)>,
    quality: f32,
}

impl MediaType {
    /// Reads one media type.
    pub fn parse(text: &str) -> MediaType {
        let mut parts = text.split(';');
        let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let mut quality = 1.0;
        let mut params = Vec::new();
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            match key {
                "q" => quality = value.parse().unwrap_or(1.0),
                _ => params.push((key.to_owned(), value.to_owned())),
            }
        }
        MediaType {
            name,
            params,
            quality,
        }
    }

    /// The value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// How specific the type is: a full type before `type/*` before `*/*`.
    fn specificity(&self) -> u8 {
        match self.name.split_once('/') {
            Some(("*", _)) => 0,
            Some((_, "*")) => 1,
            _ => 2,
        }
    }
}

/// The media types of an `Accept` header, the client's favourite first.
pub fn accepted(header: &str) -> Vec<MediaType> {
    let mut clauses: Vec<MediaType> = header
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .map(MediaType::parse)
        .filter(|c| c.quality > 0.0)
        .collect();
    clauses.sort_by(|a, b| {
        b.quality
            .total_cmp(&a.quality)
            .then(b.specificity().cmp(&a.specificity()))
    });
    clauses
}
