//! Basic authentication (RFC 7617) against htpasswd entries of the form `user:{SHA}digest`, the one that Envoy takes.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::{Call, Refusal};

/// Users and the digests of their passwords.
pub(crate) struct Users(HashMap<String, Vec<u8>>);

#[cfg(test)]
impl Users {
    /// Their names, in order.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.keys().cloned().collect();
        names.sort();
        names
    }
}

impl Users {
    /// Reads a file of htpasswd.
    ///
    /// # Errors
    /// With the number of the line that is of another form; never with its text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let digest = line
                .split_once(":{SHA}")
                .and_then(|(user, digest)| Some((user, STANDARD.decode(digest).ok()?)))
                .filter(|(user, digest)| !user.is_empty() && digest.len() == 20);
            let Some((user, digest)) = digest else {
                return Err(format!(
                    "line {} is not of the form user:{{SHA}}digest, the only one that is supported (htpasswd -s)",
                    i + 1
                ));
            };
            if users.insert(user.to_owned(), digest).is_some() {
                return Err(format!("line {} names a user for the second time", i + 1));
            }
        }
        Ok(Self(users))
    }

    /// Lets the request through, or says why not. The user's name goes into `forward`, if there is such a header.
    pub(crate) fn check(
        &self,
        call: &Call<'_>,
        headers: &mut HeaderMap,
        forward: Option<&HeaderName>,
    ) -> Result<(), Refusal> {
        let refused = |why: &'static str| {
            Refusal::new(StatusCode::UNAUTHORIZED, why).with(
                header::WWW_AUTHENTICATE,
                &format!("Basic realm=\"{}\"", call.realm()),
            )
        };
        let missing = "User authentication failed. Missing username and password.";
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| refused(missing))?;
        let (scheme, encoded) = given.split_once(' ').ok_or_else(|| refused(missing))?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(refused(
                "User authentication failed. Expected 'Basic' authentication scheme.",
            ));
        }
        let decoded = STANDARD
            .decode(encoded.trim())
            .ok()
            .and_then(|b| String::from_utf8(b).ok());
        let wrong = "User authentication failed. Invalid username/password combination.";
        let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(refused("User authentication failed. Invalid basic credentials."));
        };
        let known = self.0.get(user);
        let found = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        // Unknown users take as long as wrong passwords.
        let expected = known.map_or(&[0; 20][..], |digest| digest);
        #[allow(deprecated, reason = "ring offers no other comparison in constant time")]
        let same = ring::constant_time::verify_slices_are_equal(expected, found.as_ref()).is_ok();
        if !same || known.is_none() {
            return Err(refused(wrong));
        }
        // Nobody else says who the user is, not even where the name fits no header.
        if let Some(name) = forward {
            headers.remove(name);
        }
        if let Some(name) = forward
            && let Ok(value) = HeaderValue::from_str(user)
        {
            headers.insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    // The digest is that of `printf lovelace | openssl dgst -sha1 -binary | base64`.
    const ADA: &str = "ada:{SHA}MJgvYgf2tRctgBqviyzN0HpBdyY=";

    #[test]
    fn passwords_are_checked_against_their_digest() {
        let users = Users::parse(&format!("# people\n{ADA}\n")).unwrap();
        let try_with = |text: &str| {
            let value = format!("Basic {}", STANDARD.encode(text));
            let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            let call = super::super::testing::call(&Method::GET, "/");
            users
                .check(&call, &mut headers, None)
                .map_err(|refusal| refusal.status)
        };
        assert_eq!(try_with("ada:lovelace"), Ok(()));
        assert_eq!(try_with("ada:Lovelace"), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(try_with("eve:lovelace"), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(try_with("eve:"), Err(StatusCode::UNAUTHORIZED));
    }

    #[test]
    fn only_the_checked_user_is_told() {
        // The digest is that of `printf x | openssl dgst -sha1 -binary | base64`; no header may hold the name.
        let users = Users::parse("a\u{1}b:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=").unwrap();
        let name = HeaderName::from_static("x-user");
        let value = format!("Basic {}", STANDARD.encode("a\u{1}b:x"));
        let mut headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, value.parse().unwrap()),
            (name.clone(), "root".parse().unwrap()),
        ]);
        let call = super::super::testing::call(&Method::GET, "/");
        let checked = users.check(&call, &mut headers, Some(&name));
        assert!(checked.is_ok() && !headers.contains_key(&name), "{headers:?}");
    }

    #[test]
    fn other_digests_are_refused_without_telling_them() {
        let error = Users::parse("bob:$2y$05$secret").err().unwrap();
        assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
    }
}
