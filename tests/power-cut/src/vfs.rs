//! A disk as SQLite sees it: a virtual file system of C functions.
#![allow(unsafe_code, reason = "SQLite takes a file system as C functions and hands them plain pointers")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::slice;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rusqlite::ffi;

use crate::disk::{Call, Disk, Failure, State};

/// The name under which SQLite finds it.
pub const VFS: &str = "eap-power-cut";

const NAME: &CStr = c"eap-power-cut";

/// A file as SQLite holds it: the table of functions first, then what is ours.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    open: *mut OpenFile,
}

struct OpenFile {
    disk: Arc<Disk>,
    path: String,
    /// Tells holders of locks apart.
    number: u64,
    is_temporary: bool,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes the file system known to SQLite; any number of times.
pub fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: SQLite gives its default file system, a table that lives as long as the process.
        let default = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()).as_ref() }.expect("SQLite has a default");
        // Sleep, time and randomness are the default's: they need none of its state.
        let vfs = ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<Handle>() as c_int,
            mxPathname: 512,
            pNext: std::ptr::null_mut(),
            zName: NAME.as_ptr(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            ..*default
        };
        // SAFETY: the table is leaked, as SQLite keeps it for the life of the process.
        let answer = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) };
        assert_eq!(answer, ffi::SQLITE_OK, "the file system is registered");
    });
}

/// # Safety
///
/// `path` is null or ends with a zero.
unsafe fn text<'a>(path: *const c_char) -> Option<&'a str> {
    // SAFETY: as promised above; SQLite's paths live as long as the call.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_str().ok()).flatten()
}

/// # Safety
///
/// `file` was opened by [`open`] and is not closed.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a OpenFile {
    // SAFETY: `open` wrote both pointers, and SQLite uses a file until it closes it.
    unsafe { &*(*file.cast::<Handle>()).open }
}

/// Does the work if no fault strikes the call.
fn call(open: &OpenFile, call: Call, broken: c_int, work: impl FnOnce(&mut State, &str) -> c_int) -> c_int {
    let mut state = open.disk.state();
    match state.begin(call) {
        Ok(()) => work(&mut state, &open.path),
        Err(Failure::Broken) => broken,
        Err(Failure::Full) => ffi::SQLITE_FULL,
    }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // SAFETY: SQLite hands over room for a handle; without methods it is not closed again.
    unsafe { (*file).pMethods = std::ptr::null() };
    // SAFETY: a name of SQLite's.
    let Some(path) = (unsafe { text(name) }) else { return ffi::SQLITE_CANTOPEN };
    let Some((disk, path)) = Disk::of(path) else { return ffi::SQLITE_CANTOPEN };
    let (path, number) = (path.to_owned(), NEXT.fetch_add(1, Ordering::Relaxed));
    let is_temporary = flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0;
    let open = OpenFile { disk, path, number, is_temporary };
    let answer = call(&open, Call::Open, ffi::SQLITE_CANTOPEN, |state, path| {
        if !state.exists(path) && flags & ffi::SQLITE_OPEN_CREATE == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        state.file(path);
        ffi::SQLITE_OK
    });
    if answer == ffi::SQLITE_OK {
        // SAFETY: the room is as large as a handle, as `szOsFile` says; `out_flags` is null or writable.
        unsafe {
            let handle = file.cast::<Handle>();
            (*handle).open = Box::into_raw(Box::new(open));
            (*handle).base.pMethods = &raw const METHODS;
            if !out_flags.is_null() {
                *out_flags = flags;
            }
        }
    }
    answer
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, and `open` boxed it.
    let open = unsafe { Box::from_raw((*file.cast::<Handle>()).open) };
    let mut state = open.disk.state();
    if state.exists(&open.path) {
        state.file(&open.path).locks.remove(&open.number);
    }
    if open.is_temporary {
        state.delete(&open.path);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, length: c_int, at: i64) -> c_int {
    // SAFETY: an open file, and room for so many bytes.
    let (open, into) = unsafe { (opened(file), slice::from_raw_parts_mut(into.cast::<u8>(), length as usize)) };
    let half = into.len() / 2;
    let mut is_whole = false;
    let answer = call(open, Call::Read, ffi::SQLITE_IOERR_READ, |state, path| {
        is_whole = state.file(path).read(at as usize, into);
        if is_whole { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
    });
    if answer == ffi::SQLITE_IOERR_READ {
        open.disk.state().file(&open.path).read(at as usize, &mut into[..half]);
    }
    answer
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, length: c_int, at: i64) -> c_int {
    // SAFETY: an open file, and so many bytes.
    let (open, from) = unsafe { (opened(file), slice::from_raw_parts(from.cast::<u8>(), length as usize)) };
    call(open, Call::Write, ffi::SQLITE_IOERR_WRITE, |state, path| {
        state.file(path).write(at as usize, from);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: an open file.
    call(unsafe { opened(file) }, Call::Truncate, ffi::SQLITE_IOERR_TRUNCATE, |state, path| {
        state.file(path).truncate(length as usize);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    call(unsafe { opened(file) }, Call::Sync, ffi::SQLITE_IOERR_FSYNC, |state, path| {
        state.file(path).sync();
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: an open file, and room for the answer.
    let (open, size) = unsafe { (opened(file), &mut *size) };
    *size = open.disk.state().file(&open.path).len() as i64;
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let mut state = open.disk.state();
    let locks = &mut state.file(&open.path).locks;
    let mine = locks.get(&open.number).copied().unwrap_or(ffi::SQLITE_LOCK_NONE);
    if mine >= level {
        return ffi::SQLITE_OK;
    }
    let others = locks.iter().filter(|(holder, _)| **holder != open.number).map(|(_, level)| *level);
    let highest = others.max().unwrap_or(ffi::SQLITE_LOCK_NONE);
    let (is_free, got) = match level {
        ffi::SQLITE_LOCK_SHARED => (highest < ffi::SQLITE_LOCK_PENDING, level),
        ffi::SQLITE_LOCK_RESERVED => (highest < ffi::SQLITE_LOCK_RESERVED, level),
        // Whoever waits to be alone lets no new reader in.
        _ if highest > ffi::SQLITE_LOCK_NONE => {
            if highest < ffi::SQLITE_LOCK_PENDING {
                locks.insert(open.number, ffi::SQLITE_LOCK_PENDING);
            }
            (false, level)
        }
        _ => (true, level),
    };
    if is_free {
        locks.insert(open.number, got);
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_BUSY
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    open.disk.state().file(&open.path).locks.insert(open.number, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, is_held: *mut c_int) -> c_int {
    // SAFETY: an open file, and room for the answer.
    let (open, is_held) = unsafe { (opened(file), &mut *is_held) };
    let mut state = open.disk.state();
    *is_held = c_int::from(state.file(&open.path).locks.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED));
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    // As SQLite's own file system on Unix has it.
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    // As SQLite's own file system on Unix has it: a torn write harms no byte beside it.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    at: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file, and room for the answer.
    let (open, at) = unsafe { (opened(file), &mut *at) };
    if size as usize != crate::shm::REGION {
        return ffi::SQLITE_IOERR_SHMMAP;
    }
    let region = open.disk.state().file(&open.path).shm.map(open.number, region as usize, extend != 0);
    *at = region.map_or(std::ptr::null_mut(), <*mut _>::cast);
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let mut state = open.disk.state();
    let shm = &mut state.file(&open.path).shm;
    let (first, count) = (first as usize, count as usize);
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        shm.unlock(open.number, first, count);
        return ffi::SQLITE_OK;
    }
    let is_exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    if shm.lock(open.number, first, count, is_exclusive) { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    open.disk.state().file(&open.path).shm.unmap(open.number);
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, _: c_int) -> c_int {
    // SAFETY: a name of SQLite's.
    let Some(path) = (unsafe { text(path) }) else { return ffi::SQLITE_IOERR_DELETE };
    let Some((disk, path)) = Disk::of(path) else { return ffi::SQLITE_IOERR_DELETE };
    let mut state = disk.state();
    if state.begin(Call::Delete).is_err() {
        return ffi::SQLITE_IOERR_DELETE;
    }
    if !state.exists(path) {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    state.delete(path);
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, path: *const c_char, _: c_int, answer: *mut c_int) -> c_int {
    // SAFETY: a name of SQLite's, and room for the answer.
    let (path, answer) = unsafe { (text(path), &mut *answer) };
    let file = path.and_then(Disk::of);
    let is_there = file.is_some_and(|(disk, file)| disk.state().exists(file));
    *answer = c_int::from(is_there);
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    length: c_int,
    full: *mut c_char,
) -> c_int {
    // SAFETY: a name of SQLite's, which is whole already.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes_with_nul();
    if path.len() > length as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: there is room for `length` bytes, and the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(path.as_ptr(), full.cast::<u8>(), path.len()) };
    ffi::SQLITE_OK
}
