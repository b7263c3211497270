//! Lists that come in pages: all of them, or an error.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Retry};
use url::Url;

use crate::GitHub;
use crate::call::{Caching, Call};
use crate::wire::Page;

/// Items per page, the most that GitHub gives.
pub(crate) const PER_PAGE: u64 = 100;
/// The most pages of one list.
const MAX_PAGES: u64 = 1_000;
/// How many pages are read at once.
const AT_ONCE: usize = 4;
/// How often a list is read when it changes while its pages are read.
const MAX_READS: u32 = 4;

/// What to read.
pub(crate) struct Pages {
    pub(crate) url: Url,
    pub(crate) caching: Caching,
    pub(crate) needs: &'static str,
    /// GitHub shows no more items than this, whatever the total; zero for no such bound.
    pub(crate) shown: u64,
}

/// One reading of all pages.
struct Reading<T> {
    items: BTreeMap<u64, T>,
    /// How many items the pages held, doubles included.
    held: u64,
    /// The total that every page named, if they agreed.
    total: Option<u64>,
}

impl GitHub {
    /// Reads every page. Items that move between pages while these are read show in the
    /// totals: then the list is read anew, and what remains unsteady is an error.
    pub(crate) async fn all<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
    ) -> Result<Vec<P::Item>> {
        let mut before: Option<Vec<u64>> = None;
        for _ in 0..MAX_READS {
            let reading = self.read_once::<P>(path, pages).await?;
            let ids: Vec<u64> = reading.items.keys().copied().collect();
            let agreed = reading.total.is_some_and(|total| {
                let shown = if pages.shown == 0 {
                    total
                } else {
                    total.min(pages.shown)
                };
                let whole = u64::try_from(ids.len()).is_ok_and(|n| n == shown);
                // GitHub's total may lag; two like readings in a row are believed.
                whole || before.as_ref() == Some(&ids)
            });
            if agreed {
                return Ok(reading.items.into_values().collect());
            }
            tracing::debug!(held = reading.held, total = ?reading.total, "list changed while it was read");
            before = Some(ids);
        }
        Err(Error::new(
            ErrorKind::BadAnswer,
            "the list kept changing while its pages were read",
        )
        .with_retry(Retry::After(Duration::from_secs(2)))
        .with_context("list", pages.url.path()))
    }

    async fn read_once<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
    ) -> Result<Reading<P::Item>> {
        let first: P = self.page(path, pages, 1).await?;
        let total = first.total();
        let shown = if pages.shown == 0 {
            total
        } else {
            total.min(pages.shown)
        };
        let count = shown.div_ceil(PER_PAGE);
        if count > MAX_PAGES {
            return Err(Error::new(
                ErrorKind::BadAnswer,
                format!("GitHub names {total} items, more than the 100000 that are read"),
            )
            .with_context("list", pages.url.path()));
        }
        let rest: Vec<P> = stream::iter(2..=count)
            .map(|number| self.page(path, pages, number))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut reading = Reading {
            items: BTreeMap::new(),
            held: 0,
            total: Some(total),
        };
        for page in std::iter::once(first).chain(rest) {
            if page.total() != total {
                reading.total = None;
            }
            for item in page.items() {
                reading.held += 1;
                reading.items.insert(P::id(&item), item);
            }
        }
        Ok(reading)
    }

    /// One page, from 1 on.
    pub(crate) async fn page<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
        number: u64,
    ) -> Result<P> {
        let mut url = pages.url.clone();
        url.query_pairs_mut()
            .append_pair("per_page", &PER_PAGE.to_string())
            .append_pair("page", &number.to_string());
        let call = Call {
            caching: pages.caching,
            ..Call::get(url, pages.needs)
        };
        self.send(path, &call).await?.json()
    }
}
