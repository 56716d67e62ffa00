//! Standard output and standard error, with colour only where somebody sees it.

use std::io::{self, Write};

use anstream::AutoStream;

use crate::exit::ExitStatus;
use crate::failure::Failure;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// The styles in use. Meaning is never carried by colour alone.
pub(crate) mod style {
    use anstyle::{AnsiColor, Style};

    /// Headings.
    pub(crate) const BOLD: Style = Style::new().bold();
    /// What matters less.
    pub(crate) const DIM: Style = Style::new().dimmed();
    /// Failures.
    pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
    /// Warnings and things under way.
    pub(crate) const WAIT: Style = AnsiColor::Yellow.on_default();
    /// Success.
    pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
    /// Commands, paths and addresses to copy.
    pub(crate) const COPY: Style = AnsiColor::Cyan.on_default();

    /// `text` in a style; the stream takes the style away again where there is no colour.
    pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
        format!("{style}{text}{style:#}")
    }
}

/// Where commands print: results to `out`, everything else to `err`.
pub(crate) struct Printer {
    out: AutoStream<io::Stdout>,
    err: AutoStream<io::Stderr>,
}

impl Printer {
    /// Looks at both streams and at `NO_COLOR`.
    pub(crate) fn new(color: ColorChoice) -> Self {
        let choice = match color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::AlwaysAnsi,
            ColorChoice::Never => anstream::ColorChoice::Never,
        };
        Self {
            out: AutoStream::new(io::stdout(), choice),
            err: AutoStream::new(io::stderr(), choice),
        }
    }

    /// Prints a line of the result.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", line.as_ref())
    }

    /// Prints text of the result as it is, and brings it out at once.
    pub(crate) fn text(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.out.write_all(text.as_ref().as_bytes())?;
        self.out.flush()
    }

    /// Tells something that is not part of the result, such as progress.
    pub(crate) fn note(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.err, "{}", line.as_ref())
    }

    /// Asks something that is answered on the same line.
    pub(crate) fn question(&mut self, text: &str) -> io::Result<()> {
        self.err.write_all(text.as_bytes())?;
        self.err.flush()
    }

    /// Warns.
    pub(crate) fn warning(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        let label = style::paint(style::WAIT, "warning:");
        self.note(format!("{label} {}", line.as_ref()))
    }

    /// Shows a failure and gives its exit status.
    pub(crate) fn failure(&mut self, failure: &Failure) -> ExitStatus {
        if failure.what.is_empty() {
            return failure.status;
        }
        let mut text = format!("{} {}\n", style::paint(style::BAD, "error:"), failure.what);
        for cause in &failure.causes {
            text += &format!("  {cause}\n");
        }
        if let Some(hint) = &failure.hint {
            text += &format!("{} {hint}\n", style::paint(style::COPY, "hint:"));
        }
        // With standard error gone there is nobody left to tell.
        let _ = self.err.write_all(text.as_bytes());
        failure.status
    }
}
