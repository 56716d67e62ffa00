//! The pages of the program's file.
//!
//! The kernel maps what is near when a page is touched, sixteen pages at a time, and keeps all of it mapped for as long as nobody
//! else wants the memory. Of a large program most is touched by its start alone: of 44 MB of text, a platform that serves requests
//! uses 7. What is unmapped stays in the kernel's cache of files, where it is no longer this process' and may be dropped; a page that
//! is needed again is mapped again, without a read if it is still there.

use std::ffi::c_void;
use std::ops::Range;

/// Unmaps what of the program is as it is in its file: its text, and the data that nobody writes. What of it is in use comes back
/// by itself.
pub(crate) fn let_go() {
    let (Ok(mappings), Ok(program)) = (
        std::fs::read_to_string("/proc/self/smaps"),
        std::fs::read_link("/proc/self/exe"),
    ) else {
        return;
    };
    for range in program
        .to_str()
        .map(|program| clean(&mappings, program))
        .into_iter()
        .flatten()
    {
        unmap(&range);
    }
}

/// Where a program is as it is in its file: mappings that nobody can write to and of which no page is a copy. Data that is the same
/// but for addresses, which the loader filled in, cannot be written to either; of that there are copies.
fn clean(mappings: &str, program: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in mappings.lines() {
        if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            let range = current.take();
            found.extend(range.filter(|_| anonymous.trim() == "0 kB"));
        } else if let Some(mapping) = mapping(line) {
            current = (mapping.path == program && mapping.is_read_only).then_some(mapping.range);
        }
    }
    found
}

struct Mapping<'a> {
    range: Range<usize>,
    is_read_only: bool,
    path: &'a str,
}

/// The first line of what is told of a mapping: `5581a0000000-5581a0200000 r--p 00000000 fe:00 123    /bin/choreo`.
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut fields = line.splitn(6, ' ');
    let (range, rights) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?.trim_start();
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(Mapping {
        range: number(start)?..number(end)?,
        is_read_only: matches!(rights, "r-xp" | "r--p"),
        path,
    })
}

#[allow(unsafe_code)]
fn unmap(range: &Range<usize>) {
    let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
    // SAFETY: the range is a whole mapping of the program's file that nobody can write to and of which no page is a copy, so that each
    // page of it is as it is in the file, and that is what is mapped again when it is touched. Nobody unloads the program or maps something else in its place.
    // A failure leaves everything as it is.
    let _ = unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPINGS: &str = "\
5581a0000000-5581a0200000 r--p 00000000 fe:00 123                        /bin/choreo
Rss:                1644 kB
Anonymous:             0 kB
5581a0200000-5581a2000000 r-xp 00200000 fe:00 123                        /bin/choreo
Anonymous:             0 kB
5581a2000000-5581a2100000 r--p 02000000 fe:00 123                        /bin/choreo
Anonymous:          1628 kB
5581a2100000-5581a2110000 rw-p 02100000 fe:00 123                        /bin/choreo
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 9                          /lib/libc.so.6
Anonymous:             0 kB
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
nonsense
";

    #[test]
    fn only_what_is_as_in_the_file_is_let_go_of() {
        let data = 0x5581_a000_0000..0x5581_a020_0000;
        let text = 0x5581_a020_0000..0x5581_a200_0000;
        assert_eq!(clean(MAPPINGS, "/bin/choreo"), vec![data, text]);
        assert!(clean(MAPPINGS, "/bin/other").is_empty());
        assert!(clean("", "/bin/choreo").is_empty());
    }

    /// Kilobytes of files that are mapped.
    fn mapped() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn the_program_goes_on_without_what_it_had_mapped() {
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let text = clean(&mappings, program.to_str().unwrap());
        // Touched, so that there is something to let go of. The bytes are this test's own instructions among others.
        assert!(
            text.iter()
                .any(|range| range.contains(&(mapped as *const () as usize)))
        );
        let before = mapped();
        let_go();
        let after = mapped();
        assert!(after < before, "{after} of {before} KB");
    }
}
