//! What is on the disk, what only seems to be, and what goes wrong.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use crate::shm::Shm;

/// What a drive writes whole or not at all.
const SECTOR: usize = 512;

/// How long a photograph is prepared: an answer that was given too early has the time to arrive.
const EXPOSURE: Duration = Duration::from_micros(300);

/// Every disk that is mounted, by name.
static MOUNTED: LazyLock<Mutex<HashMap<String, Arc<Disk>>>> = LazyLock::new(Mutex::default);

/// The files that a power cut leaves, by name.
pub type Image = BTreeMap<String, Vec<u8>>;

/// SplitMix64: enough for cuts, and repeatable.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// Draws a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What goes wrong with the calls of a disk, counted from the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoFault {
    /// Call `at` fails as on a broken drive; a read breaks off halfway, a sync syncs nothing.
    Broken {
        /// The number of the call.
        at: u64,
    },
    /// From call `at` on, so many calls find no room to write.
    Full {
        /// The number of the first call.
        at: u64,
        /// How many calls.
        calls: u64,
    },
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    name: String,
    state: Mutex<State>,
}

/// What a power cut at some call would have left, and how much had been acknowledged by then.
#[derive(Clone, Debug)]
pub struct Photo {
    /// The files.
    pub image: Image,
    /// The length of what was acknowledged.
    pub acknowledged: usize,
    /// The call before which the power went.
    pub call: u64,
    /// Whether unsynced bytes were there that the cut took a part of.
    pub is_torn: bool,
}

struct Camera {
    chance: Chance,
    one_in: u64,
    acknowledged: Box<dyn Fn() -> usize + Send>,
    photos: Vec<Photo>,
}

impl std::fmt::Debug for Camera {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Camera").field("photos", &self.photos.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    files: BTreeMap<String, FileState>,
    calls: u64,
    fault: Option<IoFault>,
    camera: Option<Camera>,
}

#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// What a read sees.
    live: Vec<u8>,
    /// What is there after a power cut for sure; a file that was never synced may be gone.
    synced: Option<Vec<u8>>,
    /// What was done since, in order.
    pending: Vec<Pending>,
    /// Locks by handle, as SQLite numbers their levels.
    pub(crate) locks: HashMap<u64, i32>,
    pub(crate) shm: Shm,
}

#[derive(Debug)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// What a call does, for faults that concern it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Delete,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Broken,
    Full,
}

impl Disk {
    /// Mounts a disk with these files under a name, in place of any other of the name.
    pub fn mount(name: &str, image: &Image) -> Arc<Self> {
        let file =
            |bytes: &Vec<u8>| FileState { live: bytes.clone(), synced: Some(bytes.clone()), ..FileState::default() };
        let files = image.iter().map(|(path, bytes)| (path.clone(), file(bytes))).collect();
        let state = Mutex::new(State { files, ..State::default() });
        let disk = Arc::new(Self { name: name.to_owned(), state });
        lock(&MOUNTED).insert(name.to_owned(), Arc::clone(&disk));
        disk
    }

    /// Takes the disk out; what is open on it stays so.
    pub fn unmount(&self) {
        lock(&MOUNTED).remove(&self.name);
    }

    /// The disk that the first segment of a path names, and the file's name on it.
    pub(crate) fn of(path: &str) -> Option<(Arc<Self>, &str)> {
        let (name, file) = path.strip_prefix('/')?.split_once('/')?;
        Some((lock(&MOUNTED).get(name).cloned()?, file))
    }

    /// The path of a file for SQLite.
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        format!("/{}/{file}", self.name)
    }

    /// Makes a file, empty and there for good, unless it is there.
    pub fn create(&self, file: &str) {
        let mut state = self.state();
        if !state.exists(file) {
            state.file(file).sync();
        }
    }

    /// From now on, before one of `one_in` calls, notes what a power cut would leave and what `acknowledged` says.
    pub fn photograph(&self, chance: Chance, one_in: u64, acknowledged: impl Fn() -> usize + Send + 'static) {
        let acknowledged = Box::new(acknowledged);
        self.state().camera = Some(Camera { chance, one_in, acknowledged, photos: Vec::new() });
    }

    /// Takes the photographs away, and photographs no more.
    pub fn develop(&self) -> Vec<Photo> {
        self.state().camera.take().map_or_else(Vec::new, |camera| camera.photos)
    }

    /// Lets calls fail.
    pub fn fail(&self, fault: IoFault) {
        self.state().fault = Some(fault);
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// What a power cut leaves now, if it keeps so many of a hundred unsynced sectors.
    pub fn cut(&self, chance: &mut Chance, percent: u64) -> Image {
        self.state().cut(chance, percent).0
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Counts a call, photographs before it, and says how it fails if it does.
    pub(crate) fn begin(&mut self, call: Call) -> Result<(), Failure> {
        self.calls += 1;
        if let Some(mut camera) = self.camera.take() {
            if call != Call::Read && camera.chance.below(camera.one_in) == 0 {
                sleep(EXPOSURE);
                let acknowledged = (camera.acknowledged)();
                let percent = [0, 50, 100, 50, 90, 10][camera.chance.below(6) as usize];
                let (image, is_torn) = self.cut(&mut camera.chance, percent);
                camera.photos.push(Photo { image, acknowledged, call: self.calls, is_torn });
            }
            self.camera = Some(camera);
        }
        match self.fault {
            Some(IoFault::Broken { at }) if at == self.calls => Err(Failure::Broken),
            Some(IoFault::Full { at, calls }) if (at..at + calls).contains(&self.calls) && call == Call::Write => {
                Err(Failure::Full)
            }
            _ => Ok(()),
        }
    }

    fn cut(&self, chance: &mut Chance, percent: u64) -> (Image, bool) {
        let mut image = Image::new();
        let mut is_torn = false;
        for (path, file) in &self.files {
            let mut bytes = file.synced.clone();
            for pending in &file.pending {
                let (kept, lost) = pending.survive(&mut bytes, chance, percent);
                is_torn |= kept && lost;
            }
            if let Some(bytes) = bytes {
                image.insert(path.clone(), bytes);
            }
        }
        (image, is_torn)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    pub(crate) fn file(&mut self, path: &str) -> &mut FileState {
        self.files.entry(path.to_owned()).or_default()
    }

    pub(crate) fn delete(&mut self, path: &str) {
        self.files.remove(path);
    }
}

impl FileState {
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Reads as much as there is; the rest is zeros. Says whether all was there.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) -> bool {
        let there = self.live.get(at..).unwrap_or_default();
        let length = there.len().min(into.len());
        into[..length].copy_from_slice(&there[..length]);
        into[length..].fill(0);
        length == into.len()
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.live, at, bytes);
        self.pending.push(Pending::Write { at, bytes: bytes.to_vec() });
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.live.resize(length, 0);
        self.pending.push(Pending::Truncate(length));
    }

    pub(crate) fn sync(&mut self) {
        let mut bytes = self.synced.take().unwrap_or_default();
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Write { at, bytes: written } => put(&mut bytes, at, &written),
                Pending::Truncate(length) => bytes.resize(length, 0),
            }
        }
        self.synced = Some(bytes);
    }
}

impl Pending {
    /// Does to `file` what is left of it after a power cut; says whether something was kept, and something lost.
    fn survive(&self, file: &mut Option<Vec<u8>>, chance: &mut Chance, percent: u64) -> (bool, bool) {
        let (mut kept, mut lost) = (false, false);
        match self {
            Self::Truncate(length) => {
                if chance.below(100) < percent {
                    kept = true;
                    file.get_or_insert_default().resize(*length, 0);
                } else {
                    lost = true;
                }
            }
            Self::Write { at, bytes } => {
                let (mut from, end) = (*at, at + bytes.len());
                while from < end {
                    let until = ((from / SECTOR + 1) * SECTOR).min(end);
                    if chance.below(100) < percent {
                        kept = true;
                        put(file.get_or_insert_default(), from, &bytes[from - at..until - at]);
                    } else {
                        lost = true;
                    }
                    from = until;
                }
            }
        }
        (kept, lost)
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed must not make the next one fail as well.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_what_was_synced_and_whole_sectors_of_the_rest() {
        let disk = Disk::mount("a-cut-keeps", &Image::new());
        let write = |at, byte: u8| disk.state().file("/f").write(at, &[byte; 1024]);
        write(0, 1);
        assert_eq!(disk.cut(&mut Chance(1), 0), Image::new(), "a file that was never synced is gone");
        disk.state().file("/f").sync();
        write(512, 2);
        assert_eq!(disk.cut(&mut Chance(1), 0)["/f"], [1; 1024]);
        let all = disk.cut(&mut Chance(1), 100)["/f"].clone();
        assert_eq!((&all[..512], &all[512..]), (&[1; 512][..], &[2; 1024][..]));
        let torn: Vec<Vec<u8>> = (0..32).map(|seed| disk.cut(&mut Chance(seed), 50)["/f"].clone()).collect();
        assert!(torn.iter().all(|bytes| bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0]))));
        assert!(torn.iter().any(|bytes| bytes.len() == 1024) && torn.iter().any(|bytes| bytes.len() == 1536));
    }
}
