//! Bans made live, on disk: they survive a restart.
//!
//! A journal with a line a change, rewritten at every start, and a file a list. Fields are separated by
//! tabs; what holds control characters is refused before it comes here.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_bans::{List, Registry};
use weir_model::{Ban, BanOrigin, Cidr};

const JOURNAL: &str = "bans.journal";
const LISTS: &str = "lists";
/// Bytes that the journal may grow before it is written anew.
const JOURNAL_GROWTH_MAX: u64 = 16 << 20;

/// The state folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    journal: File,
    /// Bytes since the journal was written anew.
    grown: u64,
    /// The last line may not be whole.
    is_torn: bool,
}

impl Store {
    /// Opens the folder, made where it is missing, and reads what it holds; what could not be read is
    /// told in `damaged`.
    pub(crate) fn open(folder: &Path, damaged: &mut Vec<String>) -> io::Result<(Self, Registry)> {
        std::fs::create_dir_all(folder.join(LISTS))?;
        for entry in std::fs::read_dir(folder.join(LISTS))?.flatten() {
            // What a process left that died before its list was in force.
            if entry.file_name().to_string_lossy().ends_with(NEXT) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let journal = journal(folder)?;
        let mut store = Self { folder: folder.to_owned(), journal, grown: 0, is_torn: false };
        let registry = store.shorten(damaged)?;
        Ok((store, registry))
    }

    /// Writes the journal anew once it has grown long: clients decide how many bans layer 7 makes.
    pub(crate) fn shorten_if_long(&mut self) -> io::Result<()> {
        if self.grown < JOURNAL_GROWTH_MAX {
            return Ok(());
        }
        // Not at once again, if it fails.
        self.grown = 0;
        self.shorten(&mut Vec::new()).map(drop)
    }

    /// Writes journal and lists anew, without what was undone or has ended; what they come to.
    fn shorten(&mut self, damaged: &mut Vec<String>) -> io::Result<Registry> {
        let (mut registry, altered) = self.replay(damaged)?;
        registry.expire(SystemTime::now());
        for name in altered {
            self.write_list(&name, &registry)?;
            self.keep_list(&name)?;
        }
        self.rewrite(&registry)?;
        Ok(registry)
    }

    /// Adds lines to the journal.
    fn append(&mut self, text: &str) -> io::Result<()> {
        // What a full disk has cut off must not swallow the next line.
        let written = match self.is_torn {
            true => self.journal.write_all(format!("\n{text}").as_bytes()),
            false => self.journal.write_all(text.as_bytes()),
        };
        self.is_torn = written.is_err();
        self.grown += text.len() as u64;
        written
    }

    /// Notes bans that were made.
    pub(crate) fn banned<'a>(&mut self, bans: impl Iterator<Item = &'a Ban>) -> io::Result<()> {
        let mut text = String::new();
        bans.for_each(|ban| ban_line(ban, &mut text));
        self.append(&text)
    }

    /// Notes that there is no ban of these prefixes any more.
    pub(crate) fn unbanned(&mut self, cidrs: impl Iterator<Item = Cidr>) -> io::Result<()> {
        self.note("unban", cidrs)
    }

    pub(crate) fn allowed(&mut self, cidrs: &[Cidr]) -> io::Result<()> {
        self.note("allow", cidrs.iter().copied())
    }

    pub(crate) fn disallowed(&mut self, cidrs: &[Cidr]) -> io::Result<()> {
        self.note("disallow", cidrs.iter().copied())
    }

    fn note(&mut self, what: &str, cidrs: impl Iterator<Item = Cidr>) -> io::Result<()> {
        let mut text = String::new();
        cidrs.for_each(|cidr| text += &format!("{what}\t{cidr}\n"));
        self.append(&text)
    }

    /// Writes a list as the registry holds it; it counts once [`Store::keep_list`] was called.
    pub(crate) fn write_list(&self, name: &str, registry: &Registry) -> io::Result<()> {
        let mut file =
            BufWriter::with_capacity(1 << 20, private().truncate(true).open(self.next(name))?);
        let Some(state) = registry.lists().into_iter().find(|list| list.name == name) else {
            return Ok(());
        };
        writeln!(file, "list\t{}\t{}", seconds(state.created), flags(state.dry_run, false))?;
        registry.each_of_list(name, |cidr, reason, expires| {
            if reason.is_empty() && expires.is_none() {
                return writeln!(file, "{cidr}");
            }
            writeln!(file, "{cidr}\t{}\t{reason}", until(expires))
        })?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()
    }

    /// Puts the list that was written in the place of the one before.
    pub(crate) fn keep_list(&mut self, name: &str) -> io::Result<()> {
        std::fs::rename(self.next(name), self.list(name))?;
        self.append(&format!("list\t{name}\n"))
    }

    /// Forgets the list that was written and is not kept.
    pub(crate) fn forget_next(&self, name: &str) {
        let _ = std::fs::remove_file(self.next(name));
    }

    /// Forgets a list.
    pub(crate) fn drop_list(&mut self, name: &str) -> io::Result<()> {
        self.append(&format!("drop\t{name}\n"))?;
        match std::fs::remove_file(self.list(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, name: &str) -> PathBuf {
        // A path for a name would lead out of the folder, to a file of the operator's.
        self.folder.join(LISTS).join(name.replace('/', "~"))
    }

    fn next(&self, name: &str) -> PathBuf {
        self.list(&format!("{name}{NEXT}"))
    }

    /// What the journal comes to, and the lists that it took prefixes from.
    fn replay(&self, damaged: &mut Vec<String>) -> io::Result<(Registry, BTreeSet<String>)> {
        let (mut registry, mut altered) = (Registry::default(), BTreeSet::new());
        let path = self.folder.join(JOURNAL);
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            // A line that was cut off may end in the middle of a character.
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if line.is_empty() {
                continue;
            }
            let (what, rest) = line.split_once('\t').unwrap_or((&line, ""));
            let cidr = || rest.parse::<Cidr>().ok();
            let read = match what {
                "ban" => ban(rest).map(|ban| registry.add(ban)),
                "allow" => cidr().map(|cidr| drop(registry.allow(&[cidr]))),
                "disallow" => cidr().map(|cidr| drop(registry.disallow(&[cidr]))),
                "unban" => cidr().map(|cidr| {
                    let gone = registry.remove(cidr).into_iter();
                    altered.extend(gone.filter_map(|ban| match ban.origin {
                        BanOrigin::List(name) => Some(name),
                        _ => None,
                    }));
                }),
                "drop" => {
                    registry.take_list(rest);
                    Some(())
                }
                "list" => {
                    match read_list(&self.list(rest)) {
                        Ok(list) => drop(registry.put_list(rest, list)),
                        // Dropped later on.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => {
                            damaged.push(format!("{}: {error}", self.list(rest).display()));
                        }
                    }
                    Some(())
                }
                _ => None,
            };
            // A process that died in the middle of a line leaves the rest of it missing.
            if read.is_none() {
                damaged.push(format!("{}: `{line}`", path.display()));
            }
        }
        Ok((registry, altered))
    }

    /// Writes the journal anew, without what was undone since.
    fn rewrite(&mut self, registry: &Registry) -> io::Result<()> {
        let mut text = String::new();
        registry.lists().iter().for_each(|list| text += &format!("list\t{}\n", list.name));
        registry.live().for_each(|ban| ban_line(ban, &mut text));
        registry.allowed().iter().for_each(|cidr| text += &format!("allow\t{cidr}\n"));
        let next = self.folder.join(format!("{JOURNAL}{NEXT}"));
        let mut file = private().truncate(true).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(next, self.folder.join(JOURNAL))?;
        self.journal = journal(&self.folder)?;
        Ok(())
    }
}

/// A name that no list has: `~` is not allowed in one.
const NEXT: &str = "~next";

/// Who is banned, and why, is nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn journal(folder: &Path) -> io::Result<File> {
    private().append(true).open(folder.join(JOURNAL))
}

fn read_list(path: &Path) -> io::Result<List> {
    let wrong = |line: &str| io::Error::other(format!("`{line}` is no line of a list"));
    let mut lines = BufReader::with_capacity(1 << 20, File::open(path)?).lines();
    let head = lines.next().transpose()?.unwrap_or_default();
    let mut fields = head.split('\t').skip(1);
    let created = fields.next().and_then(time).ok_or_else(|| wrong(&head))?;
    let (dry_run, _) = fields.next().map(read_flags).ok_or_else(|| wrong(&head))?;
    let mut list = List::new(created, dry_run);
    for line in lines {
        let line = line?;
        let mut fields = line.splitn(3, '\t');
        let cidr = fields.next().and_then(|cidr| cidr.parse().ok()).ok_or_else(|| wrong(&line))?;
        let expires = fields.next().and_then(time);
        list.push(cidr, fields.next().unwrap_or(""), expires);
    }
    list.merge();
    Ok(list)
}

fn ban_line(ban: &Ban, text: &mut String) {
    let Ban { cidr, origin, reason, created, expires, dry_run, forced } = ban;
    let (created, expires) = (seconds(*created), until(*expires));
    let flags = flags(*dry_run, *forced);
    *text += &format!("ban\t{cidr}\t{origin}\t{created}\t{expires}\t{flags}\t{reason}\n");
}

fn ban(fields: &str) -> Option<Ban> {
    let mut fields = fields.splitn(6, '\t');
    let cidr = fields.next()?.parse().ok()?;
    let origin = BanOrigin::from(fields.next()?);
    let created = time(fields.next()?)?;
    let expires = time(fields.next()?);
    let (dry_run, forced) = read_flags(fields.next()?);
    let reason = fields.next()?.to_owned();
    Some(Ban { cidr, origin, reason, created, expires, dry_run, forced })
}

fn flags(dry_run: bool, forced: bool) -> &'static str {
    match (dry_run, forced) {
        (true, _) => "dry-run",
        (false, true) => "forced",
        (false, false) => "-",
    }
}

fn read_flags(text: &str) -> (bool, bool) {
    (text == "dry-run", text == "forced")
}

fn until(expires: Option<SystemTime>) -> String {
    expires.map_or_else(|| "-".to_owned(), |expires| seconds(expires).to_string())
}

/// Unix time, rounded up: a ban ends no earlier for having been written down.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

fn time(text: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban_of(cidr: &str, reason: &str, expires: Option<u64>) -> Ban {
        let origin = BanOrigin::Rule("crawlers".to_owned());
        let mut ban = Ban::new(cidr.parse().unwrap(), origin, UNIX_EPOCH + Duration::from_secs(7));
        ban.reason = reason.to_owned();
        ban.expires = expires.map(|end| UNIX_EPOCH + Duration::from_secs(end));
        ban
    }

    fn open(folder: &Path) -> (Store, Registry, Vec<String>) {
        let mut damaged = Vec::new();
        let (store, registry) = Store::open(folder, &mut damaged).unwrap();
        (store, registry, damaged)
    }

    #[test]
    fn what_was_noted_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let bans = [
            ban_of("192.0.2.0/24", "rude", Some(9_999_999_999)),
            ban_of("2001:db8::/32", "", None),
        ];
        let (mut store, registry, damaged) = open(folder.path());
        assert!(registry.live().next().is_none() && damaged.is_empty());
        store.banned(bans.iter().chain([&ban_of("192.0.2.9", "", None)])).unwrap();
        store.unbanned(["192.0.2.9".parse().unwrap()].into_iter()).unwrap();
        store.allowed(&["10.0.0.0/8".parse().unwrap()]).unwrap();
        drop(store);
        for _ in 0..2 {
            let (_, registry, _) = open(folder.path());
            assert!(registry.live().eq(&bans));
            assert_eq!(registry.allowed(), ["10.0.0.0/8".parse().unwrap()]);
        }
    }

    #[test]
    fn a_line_cut_off_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, ..) = open(folder.path());
        let ban = ban_of("192.0.2.0/24", "", None);
        store.banned([&ban].into_iter()).unwrap();
        store.journal.write_all(b"ban\t198.51.100.0/24\toper\xc3").unwrap();
        drop(store);
        let (_, registry, damaged) = open(folder.path());
        assert!(registry.live().eq([&ban]));
        assert_eq!(damaged.len(), 1);
    }

    #[test]
    fn a_long_journal_is_written_anew_and_a_torn_line_swallows_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, ..) = open(folder.path());
        let ended = ban_of("192.0.2.1", "", Some(1));
        for _ in 0..100 {
            store.banned([&ended].into_iter()).unwrap();
        }
        store.journal.write_all(b"ban\t10.0.0.0").unwrap();
        store.is_torn = true;
        let kept = ban_of("192.0.2.0/24", "rude", None);
        store.banned([&kept].into_iter()).unwrap();
        store.grown = JOURNAL_GROWTH_MAX;
        store.shorten_if_long().unwrap();
        let text = std::fs::read_to_string(folder.path().join(JOURNAL)).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(open(folder.path()).1.live().eq([&kept]));
    }

    #[test]
    fn a_list_counts_once_it_is_kept_and_loses_what_is_unbanned() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut registry, _) = open(folder.path());
        let mut list = List::new(UNIX_EPOCH + Duration::from_secs(3), true);
        list.push("192.0.2.0/24".parse().unwrap(), "", None);
        list.push("198.51.100.7".parse().unwrap(), "rude", time("9999999999"));
        list.push("198.51.100.8".parse().unwrap(), "", None);
        list.merge();
        registry.put_list("a", list);
        store.write_list("a", &registry).unwrap();
        let (mut store, before, _) = {
            drop(store);
            open(folder.path())
        };
        assert!(before.lists().is_empty());
        store.write_list("a", &registry).unwrap();
        store.keep_list("a").unwrap();
        store.unbanned(["198.51.100.8".parse().unwrap()].into_iter()).unwrap();
        registry.remove("198.51.100.8".parse().unwrap());
        for _ in 0..2 {
            let again;
            drop(store);
            (store, again, _) = open(folder.path());
            assert_eq!(again.list("a"), registry.list("a"));
            assert_eq!(again.lists(), registry.lists());
        }
        store.drop_list("a").unwrap();
        assert!(open(folder.path()).1.lists().is_empty());
    }
}
