//! How many objects the next page of a list is asked for. Pure.

/// Few: the first answer comes soon whatever they hold.
const SMALLEST: u32 = 50;

/// As many as client-go's pager asks for.
/// <https://pkg.go.dev/k8s.io/client-go/tools/pager#pkg-constants>
const LARGEST: u32 = 500;

/// A page of more bytes is followed by a smaller one: the API server holds each of them in memory.
const LARGE: u64 = 4 * 1024 * 1024;

/// The size of a list's next page: it doubles as long as pages stay small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(SMALLEST)
    }
}

impl PageSize {
    /// How many objects to ask for.
    pub(in crate::cluster) fn limit(self) -> u32 {
        self.0
    }

    /// The size of the page after one of this size that had so many bytes.
    pub(in crate::cluster) fn after(self, bytes: u64) -> Self {
        let next = if bytes > LARGE {
            self.0 / 2
        } else if bytes > LARGE / 2 {
            self.0
        } else {
            self.0.saturating_mul(2)
        };
        Self(next.clamp(SMALLEST, LARGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_while_pages_stay_small_and_shrinks_where_they_are_large() {
        let mut page = PageSize::default();
        let mut sizes = Vec::new();
        let (small, large) = (2_000, 1_400_000);
        for bytes in [
            small, small, small, small, small, large, large, large, large, small,
        ] {
            sizes.push(page.limit());
            page = page.after(u64::from(page.limit()) * bytes);
        }
        assert_eq!(sizes, [50, 100, 200, 400, 500, 500, 250, 125, 62, 50]);
    }
}
