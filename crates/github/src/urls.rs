//! Where GitHub's API is, and the paths in it.

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};
use url::{Host, Url};

/// Whether the host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The API's base of a GitHub whose web address is `url`: `https://api.github.com`,
/// `https://api.TENANT.ghe.com` or `{url}/api/v3`.
pub(crate) fn api_base(url: &Url) -> Result<Url> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::InvalidConfig, why.to_owned())
            .with_context("url", crate::text::address(url))
    };
    let Some(host) = url.host_str() else {
        return Err(refuse("the GitHub url has no host"));
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url) => {}
        "http" => {
            return Err(refuse(
                "the GitHub url is plain http, which would show the credentials to the network; use https",
            ));
        }
        _ => return Err(refuse("the GitHub url is not http or https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(
            "the GitHub url holds a user or password; give the credential separately",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() || !matches!(url.path(), "" | "/") {
        return Err(refuse(
            "the GitHub url has a path or query; give the base only, as in https://github.com",
        ));
    }
    if host == "api.github.com" || (host.starts_with("api.") && host.ends_with(".ghe.com")) {
        return Err(refuse(
            "the GitHub url is the API's; give the web address, as in https://github.com",
        ));
    }
    let mut base = url.clone();
    let hosted = host == "github.com" || host == "www.github.com" || host.ends_with(".ghe.com");
    if hosted {
        let api = format!("api.{}", host.trim_start_matches("www."));
        base.set_host(Some(&api))
            .map_err(|e| refuse("the GitHub url's host is not valid").with_source(e))?;
    } else {
        base.set_path("/api/v3");
    }
    Ok(base)
}

/// A URL under the API's base. Each segment is encoded, so that no name leaves its place.
pub(crate) fn join(base: &Url, segments: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        for segment in segments {
            // `.` and `..` would be skipped and the path would mean something else.
            let plain = !matches!(*segment, "." | "..");
            path.push(if plain { segment } else { "%2E" });
        }
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The segments that stand before `actions/runners`.
pub(crate) fn scope(path: &GitHubPath) -> Vec<&str> {
    match path {
        GitHubPath::Organization { org, .. } => vec!["orgs", org],
        GitHubPath::Repository { owner, repo } => vec!["repos", owner, repo],
        GitHubPath::Enterprise { enterprise, .. } => vec!["enterprises", enterprise],
    }
}

/// A URL under the scope's own path.
pub(crate) fn in_scope(
    base: &Url,
    path: &GitHubPath,
    rest: &[&str],
    query: &[(&str, &str)],
) -> Url {
    let mut segments = scope(path);
    segments.extend(rest);
    join(base, &segments, query)
}

/// What a credential must be allowed to do, to manage the runners of a scope.
pub(crate) fn needs(path: &GitHubPath) -> &'static str {
    match path {
        GitHubPath::Organization { .. } => {
            "the organization permission `Self-hosted runners: write` (classic token: scope `admin:org`)"
        }
        GitHubPath::Repository { .. } => {
            "the repository permission `Administration: write` (classic token: scope `repo`, and an administrator of the repository)"
        }
        GitHubPath::Enterprise { .. } => {
            "the enterprise permission `Self-hosted runners: write` (classic token: scope `manage_runners:enterprise`)"
        }
    }
}

/// What a credential must be allowed to do, to read the jobs of a repository.
pub(crate) const NEEDS_JOBS: &str =
    "the repository permission `Actions: read` (classic token: scope `repo`)";

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> Result<String> {
        api_base(&Url::parse(url).unwrap()).map(Into::into)
    }

    #[test]
    fn api_bases_follow_from_the_web_address() {
        for (web, api) in [
            ("https://github.com", "https://api.github.com/"),
            ("https://www.github.com/", "https://api.github.com/"),
            ("https://acme.ghe.com", "https://api.acme.ghe.com/"),
            (
                "https://git.acme.example:8443",
                "https://git.acme.example:8443/api/v3",
            ),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/api/v3"),
            ("http://[::1]:9", "http://[::1]:9/api/v3"),
        ] {
            assert_eq!(base(web).unwrap(), api);
        }
        for bad in [
            "http://git.acme.example",
            "https://me:hunter2@github.com",
            "https://github.com/acme",
            "https://github.com/?a=b",
            "https://api.github.com",
            "ftp://github.com",
            "data:text/plain,x",
        ] {
            let error = base(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn no_name_leaves_its_place_in_the_path() {
        let base = Url::parse("https://h/api/v3").unwrap();
        let org = GitHubPath::Organization {
            org: "a/../b?c#d".into(),
            group: "g".into(),
        };
        let url = in_scope(&base, &org, &["actions", "runners"], &[("name", "a&b=c")]);
        assert_eq!(
            url.as_str(),
            "https://h/api/v3/orgs/a%2F..%2Fb%3Fc%23d/actions/runners?name=a%26b%3Dc"
        );
        assert_eq!(
            join(&base, &["repos", "..", "x"], &[]).path(),
            "/api/v3/repos/%252E/x"
        );
    }
}
