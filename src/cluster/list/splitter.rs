//! Where the items of a list begin and end in its JSON, a piece at a time. Pure.

/// The most bytes of one item. An object has at most 1.5 MiB in etcd, and a byte of it at most six in JSON.
/// <https://etcd.io/docs/v3.6/dev-guide/limit/>
const MAX_ITEM: usize = 16 * 1024 * 1024;

/// The most bytes of what is around the items: names of a kind, a token.
const MAX_FRAME: usize = 64 * 1024;

/// The member of a list that holds its items.
const ITEMS: &[u8] = b"\"items\"";

/// Keeps of a list what is around its items, and of those one at a time. It checks no more than it has to: whoever reads the items
/// checks the rest.
#[derive(Default)]
pub(super) struct ListSplitter {
    /// How many objects and arrays are open.
    depth: usize,
    /// The depth within the items, where they have begun and not ended.
    items: Option<usize>,
    in_string: bool,
    is_escaped: bool,
    /// Where the last string outside the items begins in the frame.
    string_at: usize,
    item: Vec<u8>,
    is_complete: bool,
    frame: Vec<u8>,
}

/// What a piece of the list brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// An item is complete.
    Item,
    /// More is needed.
    Nothing,
}

/// Why it is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    /// What it holds is no object.
    #[error("the answer is no list of objects")]
    NoList,
    /// An item or what is around them is too large.
    #[error("an object of the list is larger than the API server stores")]
    TooLarge,
    /// It ended too early.
    #[error("the answer ended before the list did")]
    Incomplete,
}

impl ListSplitter {
    /// Takes a piece of the list, up to the end of an item; answers how many bytes it took.
    ///
    /// # Errors
    /// It is no list of objects, or one of them is too large.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(usize, Split), SplitError> {
        if std::mem::take(&mut self.is_complete) {
            self.item.clear();
        }
        let mut at = 0;
        while at < piece.len() {
            if self.in_string && !self.is_escaped {
                let rest = &piece[at..];
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                let plain = plain.unwrap_or(rest.len());
                self.keep(&rest[..plain])?;
                at += plain;
                if at == piece.len() {
                    break;
                }
            }
            self.take(piece[at])?;
            at += 1;
            if self.is_complete {
                return Ok((at, Split::Item));
            }
        }
        Ok((at, Split::Nothing))
    }

    /// The item that is complete.
    pub(super) fn item(&self) -> &[u8] {
        &self.item
    }

    /// The list without its items.
    ///
    /// # Errors
    /// The list has not ended.
    pub(super) fn finish(self) -> Result<Vec<u8>, SplitError> {
        let has_ended = self.depth == 0 && !self.in_string && !self.frame.is_empty();
        has_ended
            .then_some(self.frame)
            .ok_or(SplitError::Incomplete)
    }

    fn take(&mut self, byte: u8) -> Result<(), SplitError> {
        if self.in_string {
            self.in_string = self.is_escaped || byte != b'"';
            self.is_escaped = !self.is_escaped && byte == b'\\';
            return self.keep(&[byte]);
        }
        if let Some(items) = self.items
            && self.depth == items
        {
            return self.take_between(byte);
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.string_at = self.frame.len();
            }
            b'[' if self.depth == 1 && self.items.is_none() && self.is_after_items() => {
                self.items = Some(2);
                self.depth = 2;
                return self.keep_frame(b"[");
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.checked_sub(1).ok_or(SplitError::NoList)?,
            _ => {}
        }
        self.keep(&[byte])?;
        self.is_complete = self.items == Some(self.depth);
        Ok(())
    }

    /// Takes what is before, between and after the items.
    fn take_between(&mut self, byte: u8) -> Result<(), SplitError> {
        match byte {
            b'{' => {
                self.depth += 1;
                self.item.push(byte);
                Ok(())
            }
            b']' => {
                self.items = None;
                self.depth -= 1;
                self.keep_frame(b"]")
            }
            b',' | b' ' | b'\n' | b'\r' | b'\t' => Ok(()),
            _ => Err(SplitError::NoList),
        }
    }

    /// Whether the last string outside the items is the name of the member that holds them.
    fn is_after_items(&self) -> bool {
        let name = self.frame.get(self.string_at..).unwrap_or_default();
        let value = name.strip_prefix(ITEMS).map(<[u8]>::trim_ascii);
        value == Some(b":")
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        if self.items.is_none() {
            return self.keep_frame(bytes);
        }
        if self.item.len() + bytes.len() > MAX_ITEM {
            return Err(SplitError::TooLarge);
        }
        self.item.extend_from_slice(bytes);
        Ok(())
    }

    fn keep_frame(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        if self.frame.len() + bytes.len() > MAX_FRAME {
            return Err(SplitError::TooLarge);
        }
        self.frame.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The items of a list that comes in pieces of so many bytes, and what is around them.
    fn split(list: &str, piece: usize) -> Result<(Vec<String>, String), SplitError> {
        let mut splitter = ListSplitter::default();
        let mut items = Vec::new();
        for mut rest in list.as_bytes().chunks(piece) {
            while !rest.is_empty() {
                let (used, split) = splitter.push(rest)?;
                rest = &rest[used..];
                if split == Split::Item {
                    items.push(text(splitter.item()));
                }
            }
        }
        Ok((items, text(&splitter.finish()?)))
    }

    #[test]
    fn finds_each_item_however_the_list_comes() {
        let item = r#"{"items":[{"a":"]}\\"}],"b":"\"}],{","ü":{}}"#;
        let rows: [(String, usize, &str); 7] = [
            (r#"{"items":[]}"#.to_owned(), 0, r#"{"items":[]}"#),
            (r#"{"items":null}"#.to_owned(), 0, r#"{"items":null}"#),
            (format!(r#"{{"items":[{item}]}}"#), 1, r#"{"items":[]}"#),
            (
                format!(
                    "{{\"metadata\":{{\"items\":[{{}}]}},\"items\" : [\n{item} ,\t{item}\r],\"x\":1}}\n"
                ),
                2,
                "{\"metadata\":{\"items\":[{}]},\"items\" : [],\"x\":1}\n",
            ),
            (
                format!(r#"{{"kind":"items","a":["items",[{{}}]],"items":[{item}]}}"#),
                1,
                r#"{"kind":"items","a":["items",[{}]],"items":[]}"#,
            ),
            (r#"{"kind":"Status"}"#.to_owned(), 0, r#"{"kind":"Status"}"#),
            (format!("[{item}]"), 0, &format!("[{item}]")),
        ];
        for (list, count, frame) in rows {
            for piece in 1..=list.len() {
                let (items, around) = split(&list, piece).unwrap();
                assert_eq!(items, vec![item; count], "{list} by {piece}");
                assert_eq!(around, frame, "{list} by {piece}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_list_of_objects_or_has_not_ended() {
        let rows = [
            ("", SplitError::Incomplete),
            (r#"{"items":["#, SplitError::Incomplete),
            (r#"{"items":[{}"#, SplitError::Incomplete),
            (r#"{"items":[{}]"#, SplitError::Incomplete),
            (r#"{"items":["a"]}"#, SplitError::NoList),
            (r#"{"items":[1]}"#, SplitError::NoList),
            ("}", SplitError::NoList),
        ];
        for (list, error) in rows {
            assert_eq!(split(list, 3).unwrap_err(), error, "{list}");
        }
    }

    #[test]
    fn keeps_no_more_than_the_largest_object() {
        let mut splitter = ListSplitter::default();
        splitter.push(br#"{"items":[{"a":""#).unwrap();
        let piece = vec![b'x'; MAX_ITEM];
        assert_eq!(splitter.push(&piece), Err(SplitError::TooLarge));
        let around = format!(r#"{{"a":"{}"#, "x".repeat(MAX_FRAME));
        assert_eq!(split(&around, 1024).unwrap_err(), SplitError::TooLarge);
    }
}
