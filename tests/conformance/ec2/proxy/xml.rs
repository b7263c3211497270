//! As much XML as the proxy needs: lists of items, and texts of elements.

/// A list within a document: what comes before its items, the items, and what comes after.
pub(super) struct Items {
    pub(super) head: String,
    pub(super) items: Vec<String>,
    pub(super) tail: String,
}

/// Takes the list of this element apart.
pub(super) fn split(document: &str, element: &str) -> Items {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let whole = |head: &str| Items {
        head: head.to_owned(),
        items: Vec::new(),
        tail: String::new(),
    };
    let Some(start) = document.find(&open).map(|at| at + open.len()) else {
        return whole(document);
    };
    let Some(end) = document[start..].rfind(&close).map(|at| start + at) else {
        return whole(document);
    };
    let (mut items, mut depth, mut begin) = (Vec::new(), 0_usize, start);
    let inner = &document[start..end];
    for (at, _) in inner.match_indices('<') {
        let rest = &inner[at..];
        if rest.starts_with("<item>") {
            if depth == 0 {
                begin = start + at;
            }
            depth += 1;
        } else if rest.starts_with("</item>") {
            depth -= 1;
            if depth == 0 {
                items.push(document[begin..start + at + "</item>".len()].to_owned());
            }
        }
    }
    Items {
        head: document[..start].to_owned(),
        items,
        tail: document[end..].to_owned(),
    }
}

/// The text of the first element of this name.
pub(super) fn text<'a>(document: &'a str, element: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let start = document.find(&open)? + open.len();
    let end = start + document[start..].find(&close)?;
    Some(&document[start..end])
}

/// The document without the elements of this name.
pub(super) fn without(document: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let mut left = document.to_owned();
    while let Some(start) = left.find(&open)
        && let Some(length) = left[start..].find(&close)
    {
        left.replace_range(start..start + length + close.len(), "");
    }
    left.replace(&format!("<{element} />"), "")
        .replace(&format!("<{element}/>"), "")
}

/// Puts another text into each element of this name.
pub(super) fn replace(document: &mut String, element: &str, text: &str) {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let mut from = 0;
    while let Some(start) = document[from..]
        .find(&open)
        .map(|at| from + at + open.len())
        && let Some(end) = document[start..].find(&close).map(|at| start + at)
    {
        document.replace_range(start..end, text);
        from = start + text.len();
    }
}
