//! Addresses: the configured address, checked once, and the addresses of resources below it.
//!
//! The rule it keeps: an id is one path segment, whatever its characters.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{BuildError, is_public, unsendable};
use crate::job::Failure;

/// RFC 3986 unreserved characters are not encoded; all others are, also `%` and `/`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request's address. Without `Debug`: it can name a person.
pub struct Address {
    pub(super) url: Url,
    /// The path below the configured address, with `{…}` for ids; `None` for a configured address itself.
    pub(super) template: Option<Cow<'static, str>>,
}

/// A configured address, checked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    url: Url,
    /// Its path, without a last slash.
    path: String,
}

impl Base {
    /// Checks the value of a configuration key. A last slash makes no difference to [`Base::join`].
    ///
    /// # Errors
    /// [`BuildError::Address`] with the key.
    pub fn new(key: &'static str, value: &str) -> Result<Base, BuildError> {
        let wrong = BuildError::Address { key };
        let url = Url::parse(value).map_err(|_| wrong.clone())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(wrong);
        }
        Ok(Base { path: url.path().trim_end_matches('/').to_owned(), url })
    }

    /// The configured address, unchanged.
    pub fn itself(&self) -> Address {
        Address { url: self.url.clone(), template: None }
    }

    /// The address with a path below it. Each `{…}` of the template is one id. The whole id is percent-encoded, so it
    /// cannot add a segment or a query.
    ///
    /// # Errors
    /// `Rejected` for an id that is empty, `.` or `..`: the address would name another resource. `Rejected` also if
    /// there are fewer ids than places in the template.
    pub fn join(&self, template: &'static str, ids: &[&str]) -> Result<Address, Failure> {
        let unfit = || unsendable("an id that cannot stand in an address");
        let mut path = Zeroizing::new(self.path.clone());
        let mut ids = ids.iter();
        for segment in template.split('/').skip(1) {
            path.push('/');
            if segment.starts_with('{') {
                let id = ids.next().filter(|id| !matches!(**id, "" | "." | "..")).ok_or_else(unfit)?;
                path.extend(utf8_percent_encode(id, SEGMENT));
            } else {
                path.push_str(segment);
            }
        }
        // Only the path is parsed: the host was parsed when the address was checked.
        let mut url = self.url.clone();
        url.set_path(&path);
        Ok(Address { url, template: Some(Cow::Borrowed(template)) })
    }

    /// The address with an encoded path below it. `template` is the path with names in place of ids.
    pub(crate) fn below(&self, path: &str, template: String) -> Address {
        let mut url = self.url.clone();
        url.set_path(&Zeroizing::new(format!("{}{path}", self.path)));
        Address { url, template: Some(Cow::Owned(template)) }
    }

    /// True for an IP address of this machine or of a private network; false for a name.
    pub fn is_private(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(ip)) => !is_public(ip.into()),
            Some(Host::Ipv6(ip)) => !is_public(ip.into()),
            Some(Host::Domain(_)) | None => false,
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::FailureKind;

    #[test]
    fn an_id_is_one_segment_whatever_its_characters() {
        let base = Base::new("base_url", "http://127.0.0.1:1/3.1/").expect("base");
        let url = base.join("/customers/{id}", &["a/b?c#d%2e\\é\tf@g"]).expect("url").url;
        assert_eq!(url.path(), "/3.1/customers/a%2Fb%3Fc%23d%252e%5C%C3%A9%09f%40g");
        assert_eq!((url.query(), url.fragment()), (None, None));
    }

    #[test]
    fn an_id_that_would_name_another_resource_is_rejected() {
        let base = Base::new("base_url", "http://127.0.0.1:1").expect("base");
        for id in ["", ".", ".."] {
            let kind = base.join("/customers/{id}", &[id]).err().map(|failure| failure.kind);
            assert_eq!(kind, Some(FailureKind::Rejected));
        }
    }

    #[test]
    fn an_address_with_a_user_a_query_or_another_scheme_is_refused_by_its_key() {
        for value in [
            "",
            "x",
            "ftp://example.com",
            "http://u@example.com",
            "http://u:p@example.com",
            "https://example.com/?a=1",
            "https://example.com/#a",
        ] {
            assert_eq!(Base::new("core_url", value), Err(BuildError::Address { key: "core_url" }));
        }
    }
}
