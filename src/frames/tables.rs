//! The unwind tables of the objects that are loaded: of the program, and of its shared libraries.
//!
//! An object's program headers name its `.eh_frame_hdr`, a sorted index of the `.eh_frame` that describes its
//! functions. Both lie in memory, because a panic needs them too.
//!
//! - **V1** A table of the program itself stays in memory. A library may be unloaded by another thread at any time,
//!   but not while `dl_iterate_phdr` calls back, so its tables are copied there.

use std::borrow::Cow;
use std::ffi::c_int;
use std::ops::Range;
use std::slice;

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use libc::{PF_X, PT_GNU_EH_FRAME, PT_LOAD, c_void, dl_phdr_info};

/// The tables of one object.
pub(super) struct ObjectTables {
    /// From its first instruction to its last.
    code: Range<usize>,
    pub(super) index: Cow<'static, [u8]>,
    pub(super) functions: Cow<'static, [u8]>,
    pub(super) bases: BaseAddresses,
}

/// The tables of all objects that are loaded.
pub(crate) struct Tables(Vec<ObjectTables>);

impl Tables {
    /// Those that are loaded now.
    pub(crate) fn loaded() -> Tables {
        let mut tables = Tables(Vec::new());
        // SAFETY: V1, `note` gets the tables below, and only during the call.
        unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut tables).cast()) };
        tables
    }

    /// Those of the object that `address` lies in.
    pub(super) fn of(&self, address: usize) -> Option<&ObjectTables> {
        self.0.iter().find(|object| object.code.contains(&address))
    }
}

/// Notes the tables of one object. An object without any, or one that there is no memory for, is passed over.
unsafe extern "C" fn note(info: *mut dl_phdr_info, _size: usize, tables: *mut c_void) -> c_int {
    // SAFETY: V1, the loader's, and the caller's.
    let (info, tables) = unsafe { (&*info, &mut *tables.cast::<Tables>()) };
    // The program comes first.
    let stays = tables.0.is_empty();
    // SAFETY: V1, the object is loaded.
    if let Some(object) = unsafe { find(info, stays) }
        && tables.0.try_reserve(1).is_ok()
    {
        tables.0.push(object);
    }
    0
}

/// # Safety
///
/// The object is loaded, and if it `stays`, it is not unloaded.
unsafe fn find(info: &dl_phdr_info, stays: bool) -> Option<ObjectTables> {
    // SAFETY: V1, the caller's word.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let place = |header: &libc::Elf64_Phdr| {
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        start..start.wrapping_add(header.p_memsz as usize)
    };
    let loaded = || headers.iter().filter(|header| header.p_type == PT_LOAD);
    let code = loaded().filter(|header| header.p_flags & PF_X != 0).map(place);
    let code = code.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end))?;
    let index = place(headers.iter().find(|header| header.p_type == PT_GNU_EH_FRAME)?);
    let bases = BaseAddresses::default().set_eh_frame_hdr(index.start as u64);
    // SAFETY: V1, the header says that this is loaded.
    let index_bytes = unsafe { bytes(index) };
    let parsed = EhFrameHdr::new(index_bytes, LittleEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(start) = parsed.eh_frame_ptr() else { return None };
    let segment = loaded().map(place).find(|segment| segment.contains(&(start as usize)))?;
    // SAFETY: V1, as above.
    let functions = until_terminator(unsafe { bytes(start as usize..segment.end) });
    let keep = |bytes: &'static [u8]| if stays { Some(Cow::Borrowed(bytes)) } else { copy(bytes) };
    Some(ObjectTables {
        code,
        index: keep(index_bytes)?,
        functions: keep(functions)?,
        bases: bases.set_eh_frame(start),
    })
}

/// # Safety
///
/// This is memory of an object that is loaded. It is used for as long as that is so.
unsafe fn bytes(range: Range<usize>) -> &'static [u8] {
    // SAFETY: V1, the caller's word.
    unsafe { slice::from_raw_parts(std::ptr::with_exposed_provenance(range.start), range.len()) }
}

fn copy(bytes: &[u8]) -> Option<Cow<'static, [u8]>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(Cow::Owned(copy))
}

/// The entries of an `.eh_frame`, each of which begins with its length; the last has the length 0.
fn until_terminator(section: &[u8]) -> &[u8] {
    let mut end = 0;
    while let Some(length) = section[end..].first_chunk::<4>().map(|word| u32::from_le_bytes(*word))
    {
        let next = end.saturating_add(4).saturating_add(length as usize);
        // The largest length stands for one of 64 bits, which no linker writes here.
        if length == 0 || length == u32::MAX || next > section.len() {
            break;
        }
        end = next;
    }
    &section[..end]
}
