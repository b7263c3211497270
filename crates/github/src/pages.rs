//! Lists that come in pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Retry};
use url::Url;

use crate::GitHub;
use crate::call::{Caching, Call};
use crate::model::Unread;
use crate::wire::Page;

/// Items per page, the most that GitHub gives.
pub(crate) const PER_PAGE: u64 = 100;
/// The most pages of one list.
const MAX_PAGES: u64 = 1_000;
/// How many pages are read at once.
const AT_ONCE: usize = 4;
/// How often a list is read when it changes while its pages are read.
const MAX_READS: u32 = 4;
/// How many odd records are remembered as told.
const MAX_ODD: usize = 1_024;

/// What to read.
pub(crate) struct Pages {
    pub(crate) url: Url,
    pub(crate) caching: Caching,
    pub(crate) needs: &'static str,
    /// GitHub shows no more items than this, whatever the total; zero for no such bound.
    pub(crate) shown: u64,
    /// Items per page.
    pub(crate) size: u64,
}

impl Pages {
    /// How many of so many items GitHub shows.
    fn shown(&self, total: u64) -> u64 {
        if self.shown == 0 {
            total
        } else {
            total.min(self.shown)
        }
    }
}

/// A list as far as it could be read.
pub(crate) struct Gathered<T> {
    /// What was read on any page, each once, in order of id.
    pub(crate) items: Vec<T>,
    /// What is known of the records that could not be read.
    pub(crate) unread: Vec<Unread>,
    /// Why the list may hold more than this; none for a whole one.
    pub(crate) gap: Option<Error>,
    /// How many items the whole list has, as GitHub says.
    pub(crate) total: u64,
    /// When the list was asked for, by GitHub's clock.
    pub(crate) date: Option<Timestamp>,
}

impl<T> Gathered<T> {
    /// A list without items.
    pub(crate) fn empty() -> Self {
        Self {
            items: Vec::new(),
            unread: Vec::new(),
            gap: None,
            total: 0,
            date: None,
        }
    }
}

/// One reading of all pages.
struct Reading<T> {
    items: BTreeMap<u64, T>,
    unread: Vec<Unread>,
    /// How many records the pages held, doubles included.
    held: u64,
    /// The total that every page named, if they agreed.
    total: Option<u64>,
    /// Why a page is missing.
    failed: Option<Error>,
    date: Option<Timestamp>,
}

impl<T> Reading<T> {
    fn add<P: Page<Item = T>>(&mut self, page: P) {
        for item in page.items() {
            self.held += 1;
            match item {
                Ok(item) => {
                    self.items.insert(P::id(&item), item);
                }
                Err(unread) => self.unread.push(unread),
            }
        }
    }

    /// How many different records there are, as far as they can be told apart.
    fn different(&self) -> u64 {
        let named: BTreeSet<u64> = self.unread.iter().filter_map(|unread| unread.id).collect();
        let nameless = self.unread.iter().filter(|unread| unread.id.is_none());
        let count = self.items.len() + named.len() + nameless.count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl GitHub {
    /// Reads every page, and gives all or an error.
    ///
    /// Items that move between pages while these are read show in the totals: then the list is
    /// read anew, and what remains unsteady is an error.
    pub(crate) async fn all<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
    ) -> Result<Vec<P::Item>> {
        let gathered = self.gather::<P>(path, pages).await?;
        match gathered.gap {
            Some(gap) => Err(gap),
            None => Ok(gathered.items),
        }
    }

    /// Reads every page, and gives what was on any of them.
    ///
    /// # Errors
    /// When the first page cannot be read.
    pub(crate) async fn gather<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
    ) -> Result<Gathered<P::Item>> {
        let mut before: Option<Vec<u64>> = None;
        let mut seen: BTreeMap<u64, P::Item> = BTreeMap::new();
        let (mut unread, mut total, mut date) = (Vec::new(), 0, None);
        for _ in 0..MAX_READS {
            let reading = self.read_once::<P>(path, pages).await?;
            self.tell_unread(pages, &reading.unread);
            let ids: Vec<u64> = reading.items.keys().copied().collect();
            let agreed = reading.failed.is_none()
                && reading.total.is_some_and(|total| {
                    // GitHub's total may lag; two like readings in a row are believed.
                    reading.different() == pages.shown(total) || before.as_ref() == Some(&ids)
                });
            total = reading.total.unwrap_or(reading.held);
            unread.clone_from(&reading.unread);
            date = reading.date;
            if agreed {
                return Ok(Gathered {
                    items: reading.items.into_values().collect(),
                    unread,
                    gap: None,
                    total,
                    date,
                });
            }
            tracing::debug!(held = reading.held, total = ?reading.total, "list changed while it was read");
            // The newest reading of each.
            seen.extend(reading.items);
            if let Some(failed) = reading.failed {
                return Ok(Gathered {
                    items: seen.into_values().collect(),
                    unread,
                    gap: Some(failed),
                    total,
                    date,
                });
            }
            before = Some(ids);
        }
        let unsteady = Error::new(
            ErrorKind::BadAnswer,
            "the list kept changing while its pages were read",
        )
        .with_retry(Retry::After(Duration::from_secs(2)))
        .with_context("list", pages.url.path());
        Ok(Gathered {
            items: seen.into_values().collect(),
            unread,
            gap: Some(unsteady),
            total,
            date,
        })
    }

    async fn read_once<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
    ) -> Result<Reading<P::Item>> {
        let (first, date): (P, _) = self.dated_page(path, pages, 1).await?;
        let mut reading = Reading {
            items: BTreeMap::new(),
            unread: Vec::new(),
            held: 0,
            total: first.total(),
            failed: None,
            date,
        };
        let Some(total) = first.total() else {
            reading.add(first);
            return self.read_on::<P>(path, pages, reading).await;
        };
        let count = pages.shown(total).div_ceil(pages.size);
        if count > MAX_PAGES {
            return Err(Error::new(
                ErrorKind::BadAnswer,
                format!("GitHub names {total} items, more than the 100000 that are read"),
            )
            .with_context("list", pages.url.path()));
        }
        let rest: Vec<Result<P>> = stream::iter(2..=count)
            .map(|number| self.page(path, pages, number))
            .buffered(AT_ONCE)
            .collect()
            .await;
        for page in std::iter::once(Ok(first)).chain(rest) {
            match page {
                Ok(page) => {
                    if page.total() != Some(total) {
                        reading.total = None;
                    }
                    reading.add(page);
                }
                Err(error) => reading.failed = Some(error),
            }
        }
        Ok(reading)
    }

    /// Reads pages until one is not full, where no page says how many there are.
    async fn read_on<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
        mut reading: Reading<P::Item>,
    ) -> Result<Reading<P::Item>> {
        let mut number = 1;
        while reading.held == number * pages.size && number < MAX_PAGES {
            number += 1;
            match self.page::<P>(path, pages, number).await {
                Ok(page) => reading.add(page),
                Err(error) => {
                    reading.failed = Some(error);
                    break;
                }
            }
        }
        reading.total = Some(reading.different());
        Ok(reading)
    }

    /// Says once that a record cannot be read.
    fn tell_unread(&self, pages: &Pages, unread: &[Unread]) {
        for record in unread {
            self.tell_odd(pages.url.path(), record);
        }
    }

    /// Says once that a record of a list cannot be read, for as many as are remembered.
    pub(crate) fn tell_odd(&self, list: &str, record: &Unread) {
        let key = (list.to_owned(), record.id, record.name.clone());
        let mut told = self.0.odd.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_ODD && told.insert(key) {
            let name = record.name.as_deref().map(crate::text::plain);
            tracing::warn!(
                list,
                id = record.id,
                name,
                "a record lacks a field or has an odd one, and is skipped"
            );
        }
    }

    /// One page, from 1 on.
    pub(crate) async fn page<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
        number: u64,
    ) -> Result<P> {
        self.dated_page(path, pages, number)
            .await
            .map(|(page, _)| page)
    }

    /// One page, and when GitHub gave it.
    async fn dated_page<P: Page>(
        &self,
        path: &GitHubPath,
        pages: &Pages,
        number: u64,
    ) -> Result<(P, Option<Timestamp>)> {
        let mut url = pages.url.clone();
        url.query_pairs_mut()
            .append_pair("per_page", &pages.size.to_string())
            .append_pair("page", &number.to_string());
        let call = Call {
            caching: pages.caching,
            ..Call::get(url, pages.needs)
        };
        let answer = self.send(path, &call).await?;
        Ok((answer.json()?, answer.date()))
    }
}
