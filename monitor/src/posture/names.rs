//! Whether a certificate is one for a name (RFC 6125 section 6, RFC 9525).

use std::net::IpAddr;

use dissect::Certificate;

/// Whether the certificate names this host: by its alternative names; by the common name of its
/// subject only where it has none of type DNS or IP (RFC 6125 section 6.4.4).
fn is_for(certificate: &Certificate, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let names: Vec<&str> = host_names(certificate).collect();
    if let Ok(address) = host.parse::<IpAddr>() {
        return certificate
            .alternative_names
            .iter()
            .filter_map(|name| name.strip_prefix("IP:"))
            .any(|name| name.parse() == Ok(address));
    }
    names.iter().any(|name| matches(name, host))
}

/// The same, where that can be told: of a list that was cut, a name may be among the rest.
pub fn says_whether_for(certificate: &Certificate, host: &str) -> Option<bool> {
    let is = is_for(certificate, host);
    (is || !certificate.names_cut).then_some(is)
}

/// The DNS names of a certificate.
fn host_names(certificate: &Certificate) -> impl Iterator<Item = &str> {
    let alternative = certificate.alternative_names.iter().filter_map(|name| name.strip_prefix("DNS:"));
    alternative.chain(common_name_of_host(certificate))
}

fn lists_hosts(certificate: &Certificate) -> bool {
    certificate
        .alternative_names
        .iter()
        .any(|name| name.strip_prefix("DNS:").or_else(|| name.strip_prefix("IP:")).is_some())
}

/// One leftmost label may be `*`; it stands for one label (RFC 9525 section 6.3).
fn matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_end_matches('.');
    match pattern.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(label, parent)| !label.is_empty() && parent.eq_ignore_ascii_case(rest)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// Kinds of alternative names, as they stand in front of them.
const KINDS: [&str; 5] = ["DNS", "IP", "URI", "email", "dirName"];

/// Whether a text of a policy (`*.example.org`, `spiffe://…`, `DNS:…`) means this alternative name: by its kind, or, where
/// it gives none, by its form. Who may choose one kind of name has not that of another, however alike they look.
pub fn is_meant(text: &str, name: &str, matches: impl Fn(&str) -> bool) -> bool {
    let Some((kind, bare)) = name.split_once(':') else { return false };
    let is = |known: &&str| text.split_once(':').is_some_and(|(asked, _)| asked.eq_ignore_ascii_case(known));
    if let Some(asked) = KINDS.iter().find(|known| is(known)) {
        return *asked == kind && matches(name);
    }
    let has_its_form = match kind {
        "DNS" | "IP" => true,
        "URI" => text.contains("://") || text.starts_with("urn:"),
        "email" => text.contains('@'),
        _ => text.contains('='),
    };
    (has_its_form || text == "*") && matches(bare)
}

/// The name of a certificate that has no alternative ones of a host (RFC 6125 section 6.4.4).
pub fn common_name_of_host(certificate: &Certificate) -> Option<&str> {
    (!lists_hosts(certificate)).then(|| common_name(&certificate.subject)).flatten()
}

/// The first CN of an RFC 4514 name, as it stands there.
pub fn common_name(subject: &str) -> Option<&str> {
    parts(subject).find_map(|part| part.strip_prefix("CN="))
}

/// Its attributes. A comma or a plus behind a backslash is one of a value.
fn parts(subject: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    subject.split(move |c| {
        let is_between = matches!(c, ',' | '+') && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_between
    })
}

/// What to call a certificate: the host that was asked for where it is one for that, else its SPIFFE ID,
/// first name, common name, or subject.
pub fn shown<'a>(certificate: &'a Certificate, asked: Option<&'a str>) -> &'a str {
    if let Some(host) = asked
        && is_for(certificate, host)
    {
        return host;
    }
    if let Some(id) = &certificate.spiffe_id {
        return id;
    }
    let first = certificate
        .alternative_names
        .first()
        .map(|name| name.split_once(':').map_or(name.as_str(), |(_, value)| value));
    first.or_else(|| common_name(&certificate.subject)).unwrap_or_else(|| {
        if certificate.subject.is_empty() { "a certificate without a name" } else { &certificate.subject }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str], subject: &str) -> Certificate {
        Certificate {
            subject: subject.into(),
            alternative_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Certificate::default()
        }
    }

    #[test]
    fn names_are_compared_as_browsers_do() {
        let web =
            certificate(&["DNS:api.example.org", "DNS:*.Example.net", "IP:10.0.0.1"], "CN=other.example");
        for (host, is) in [
            ("api.example.org", true),
            ("API.example.ORG.", true),
            ("www.example.org", false),
            ("a.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            ("other.example", false),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
        ] {
            assert_eq!(is_for(&web, host), is, "{host}");
        }
        assert!(is_for(&certificate(&[], "CN=old.example,O=Old"), "old.example"));
        assert!(is_for(&certificate(&["URI:spiffe://x/y"], "O=Old,CN=old.example"), "old.example"));
    }

    #[test]
    fn a_value_that_looks_like_a_common_name_is_none() {
        let is = |subject: &str| is_for(&certificate(&[], subject), "a.example");
        for subject in [
            "O=x\\,CN=a.example",
            "CN=x\\,CN=a.example",
            "O=x\\+CN=a.example",
            "O=\\\\\\,CN=a.example",
            "O=\\ CN=a.example",
        ] {
            assert!(!is(subject), "{subject}");
        }
        for subject in
            ["O=x\\\\,CN=a.example", "O=x\\,y,CN=a.example", "OU=x+CN=a.example", "CN=a.example+OU=x"]
        {
            assert!(is(subject), "{subject}");
        }
    }

    #[test]
    fn a_name_of_another_kind_is_not_the_one_that_is_meant() {
        let is = |text: &str, name: &str| {
            is_meant(text, name, |value| wildmatch::WildMatch::new_case_insensitive(text).matches(value))
        };
        for (text, name) in [
            ("pay.example", "DNS:pay.example"),
            ("*.example", "DNS:pay.example"),
            ("DNS:pay.*", "DNS:pay.example"),
            ("dns:pay.*", "DNS:pay.example"),
            ("fd00::7", "IP:fd00::7"),
            ("IP:fd00::*", "IP:fd00::7"),
            ("spiffe://example.org/*", "URI:spiffe://example.org/pay"),
            ("*://example.org/pay", "URI:spiffe://example.org/pay"),
            ("urn:pay", "URI:urn:pay"),
            ("URI:mailto:a@b.example", "URI:mailto:a@b.example"),
            ("*@b.example", "email:a@b.example"),
            ("CN=a*", "dirName:CN=a,O=b"),
            ("*", "dirName:CN=a,O=b"),
            ("*", "URI:x"),
        ] {
            assert!(is(text, name), "{text}: {name}");
        }
        for (text, name) in [
            ("pay.example", "URI:pay.example"),
            ("pay.example", "email:pay.example"),
            ("DNS:pay.example", "URI:DNS:pay.example"),
            ("URI:x://pay", "DNS:URI:x://pay"),
            ("*.example.org", "URI:spiffe://corp/ns/mine/sa/x.example.org"),
            ("*.example.org", "email:x@y.example.org"),
            ("*.example.org", "dirName:CN=x.example.org"),
            ("fd00::7", "URI:fd00::7"),
            ("10.0.0.1", "email:10.0.0.1"),
            ("*@b.example", "URI:x://y@b.example"),
            ("pay.example", "pay.example"),
        ] {
            assert!(!is(text, name), "{text}: {name}");
        }
    }

    #[test]
    fn a_certificate_has_a_name_for_people() {
        let web = certificate(&["DNS:a.example", "DNS:b.example"], "CN=c");
        assert_eq!(shown(&web, Some("b.example")), "b.example");
        assert_eq!(shown(&web, Some("z.example")), "a.example");
        assert_eq!(shown(&certificate(&[], "CN=c,O=d"), None), "c");
        assert_eq!(shown(&certificate(&[], ""), None), "a certificate without a name");
    }
}
