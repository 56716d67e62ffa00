//! The terminal, when it is handed to a process elsewhere.

use std::io::IsTerminal as _;

use crossterm::terminal;

use crate::failure::Failure;

/// Whether somebody sits at both ends.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The size in columns and rows; none when it cannot be told.
pub(crate) fn size() -> Option<(u16, u16)> {
    terminal::size()
        .ok()
        .filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

/// As long as this is there, keys go through as they are pressed: a Ctrl-C is the other process's.
pub(crate) struct Raw(());

impl Raw {
    /// # Errors
    /// When standard input is no terminal.
    pub(crate) fn enter() -> Result<Raw, Failure> {
        terminal::enable_raw_mode()
            .map_err(|error| Failure::new("cannot hand over the terminal").because(&error))?;
        Ok(Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to try.
        let _ = terminal::disable_raw_mode();
    }
}
