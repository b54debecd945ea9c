//! A page: its blocks of commands in order, each with the heading that it is below and what it prints.

/// The heading below which what goes wrong is shown.
const WRONG: &str = "What goes wrong";

/// A page.
pub(crate) struct Page {
    pub(crate) blocks: Vec<Block>,
}

/// Commands.
pub(crate) struct Block {
    /// The nearest heading above.
    pub(crate) heading: String,
    /// The nearest heading of the second level.
    pub(crate) section: String,
    pub(crate) text: String,
    /// What they print, where the page says it: a block of `text` that comes next.
    pub(crate) output: Option<String>,
}

impl Page {
    pub(crate) fn read(text: &str) -> Self {
        let mut page = Self { blocks: Vec::new() };
        let (mut heading, mut section) = (String::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with('#') {
                line.trim_start_matches('#').trim().clone_into(&mut heading);
                if line.starts_with("## ") {
                    section.clone_from(&heading);
                }
            }
            let Some(kind) = line.strip_prefix("```") else {
                continue;
            };
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let text = inside.join("\n");
            match kind {
                "sh" => page.blocks.push(Block {
                    heading: heading.clone(),
                    section: section.clone(),
                    text,
                    output: None,
                }),
                "text" => {
                    let last = page.blocks.last_mut().expect("output comes after commands");
                    assert!(last.output.is_none(), "two outputs: {text}");
                    last.output = Some(text);
                }
                other => assert!(["yaml", ""].contains(&other), "a block of {other}"),
            }
        }
        page
    }
}

impl Block {
    /// Whether a command of it may fail: below "What goes wrong".
    pub(crate) fn is_failure(&self) -> bool {
        self.section == WRONG
    }

    /// Its commands, one a line, without what a here-document says and without comments.
    pub(crate) fn commands(&self) -> impl Iterator<Item = String> {
        let mut commands = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let mut command = line.trim().to_owned();
            while let Some(begun) = command.strip_suffix('\\') {
                let rest = lines.next().unwrap_or_default().trim();
                command = format!("{begun}{rest}");
            }
            if ["<<EOF", "<<'EOF'"]
                .iter()
                .any(|begin| command.contains(begin))
            {
                lines.by_ref().find(|line| *line == "EOF");
            }
            if !command.is_empty() && !command.starts_with('#') {
                commands.push(command);
            }
        }
        commands.into_iter()
    }
}
