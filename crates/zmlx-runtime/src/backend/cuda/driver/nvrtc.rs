//! Text → code, by NVIDIA's run-time compiler. It needs no device, and no headers: kernels include nothing.

use super::nvrtc_present;
use crate::Error;
use cudarc::nvrtc::sys::{self, nvrtcProgram, nvrtcResult};
use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr,
};

/// The text of one or more kernels.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Whose text it is, for errors.
    pub op: &'a str,
    /// CUDA C++. Kernels are `extern "C" __global__`.
    pub text: &'a str,
    /// Options of NVRTC beside the architecture and the language. `--minimal` leaves out textures and launches from
    /// kernels, and a quarter of the time: 36 ms instead of 52 for a sum over rows (NVRTC 13.0, AMD EPYC).
    pub options: &'a [&'a str],
}

/// What a device loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// For one architecture; the driver only copies it.
    Cubin(Vec<u8>),
    /// For one architecture and all later ones; the driver compiles it at each load.
    Ptx(Vec<u8>),
}

/// The language of our kernels.
const LANGUAGE: &str = "--std=c++17";
/// What NVRTC calls our text in its log.
const NAME: &CStr = c"kernel";

impl Code {
    /// Bytes that the driver tells apart by themselves. PTX ends with a zero.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Code::Cubin(bytes) | Code::Ptx(bytes) => bytes,
        }
    }
}

/// Version of NVRTC.
pub fn version() -> Result<(u32, u32), Error> {
    nvrtc_present()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both places are ours.
    check("nvrtcVersion", unsafe { sys::nvrtcVersion(&mut major, &mut minor) })?;
    Ok((major as u32, minor as u32))
}

/// Compiles for a device of this compute capability: to code that is ready to run, or, if this NVRTC is older than the
/// device, to PTX for the newest architecture it knows.
pub fn compile(source: &Source<'_>, capability: (u32, u32)) -> Result<Code, Error> {
    nvrtc_present()?;
    let device = 10 * capability.0 + capability.1;
    let known = architectures()?;
    let Some(newest) = known.iter().copied().filter(|known| *known <= device).max() else {
        return Err(Error::Device {
            op: source.op.into(),
            what: format!("compute capability of the device, {}.{}", capability.0, capability.1),
            expected: format!("one that NVRTC compiles for ({known:?})"),
            got: format!("sm_{device}"),
        });
    };
    let ready = newest == device;
    let target = format!("{}_{newest}", if ready { "sm" } else { "compute" });
    let program = Program::new(source, &target)?;
    program.compile(source, &target)?;
    if ready {
        Ok(Code::Cubin(program.output("nvrtcGetCUBIN", sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN)?))
    } else {
        Ok(Code::Ptx(program.output("nvrtcGetPTX", sys::nvrtcGetPTXSize, sys::nvrtcGetPTX)?))
    }
}

/// What this NVRTC compiles for: 80 is sm_80.
fn architectures() -> Result<Vec<u32>, Error> {
    let mut count: c_int = 0;
    // SAFETY: the place is ours.
    check("nvrtcGetNumSupportedArchs", unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) })?;
    let mut found: Vec<c_int> = vec![0; count.max(0) as usize];
    // SAFETY: it writes as many numbers as it said.
    check("nvrtcGetSupportedArchs", unsafe { sys::nvrtcGetSupportedArchs(found.as_mut_ptr()) })?;
    Ok(found.into_iter().map(|arch| arch as u32).collect())
}

/// A compilation. It goes with this value.
struct Program {
    raw: nvrtcProgram,
    /// NVRTC may refer to the text until then.
    _text: CString,
}

impl Program {
    fn new(source: &Source<'_>, target: &str) -> Result<Program, Error> {
        let text = terminated(source, target, source.text)?;
        let mut raw = ptr::null_mut();
        // SAFETY: text and name end with zeros, and there are no headers.
        let created =
            unsafe { sys::nvrtcCreateProgram(&mut raw, text.as_ptr(), NAME.as_ptr(), 0, ptr::null(), ptr::null()) };
        check("nvrtcCreateProgram", created)?;
        Ok(Program { raw, _text: text })
    }

    fn compile(&self, source: &Source<'_>, target: &str) -> Result<(), Error> {
        let architecture = format!("--gpu-architecture={target}");
        let options = [architecture.as_str(), LANGUAGE].into_iter().chain(source.options.iter().copied());
        let options: Vec<CString> =
            options.map(|option| terminated(source, target, option)).collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the pointers are to strings that live until it returns.
        match unsafe { sys::nvrtcCompileProgram(self.raw, pointers.len() as c_int, pointers.as_ptr()) } {
            nvrtcResult::NVRTC_SUCCESS => Ok(()),
            nvrtcResult::NVRTC_ERROR_COMPILATION | nvrtcResult::NVRTC_ERROR_INVALID_OPTION => {
                Err(Error::refused(source.op, target, source.text, self.log()?))
            }
            // such as a part of NVRTC that is not beside it
            other => {
                let got = format!("{other:?}\n{}", self.log().unwrap_or_default());
                let (op, what) = (source.op.into(), format!("nvrtcCompileProgram for {target}"));
                Err(Error::Device { op, what, expected: "success".into(), got: got.trim_end().into() })
            }
        }
    }

    fn log(&self) -> Result<String, Error> {
        let log = self.output("nvrtcGetProgramLog", sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog)?;
        Ok(String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_string())
    }

    /// Something that NVRTC gives in two calls: how long it is, and it.
    fn output(
        &self,
        call: &str,
        size: unsafe fn(nvrtcProgram, *mut usize) -> nvrtcResult,
        get: unsafe fn(nvrtcProgram, *mut c_char) -> nvrtcResult,
    ) -> Result<Vec<u8>, Error> {
        let mut n = 0;
        // SAFETY: the program is alive and the place ours.
        check(call, unsafe { size(self.raw, &mut n) })?;
        let mut bytes = vec![0u8; n];
        // SAFETY: it writes as many bytes as it said.
        check(call, unsafe { get(self.raw, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was made by nvrtcCreateProgram and is not used again.
        unsafe { sys::nvrtcDestroyProgram(&mut self.raw) };
    }
}

/// NVRTC's strings end at the first zero.
fn terminated(source: &Source<'_>, target: &str, text: &str) -> Result<CString, Error> {
    let why = "a text or an option has a zero byte";
    CString::new(text).map_err(|_| Error::refused(source.op, target, source.text, why.into()))
}

fn check(call: &str, result: nvrtcResult) -> Result<(), Error> {
    if result == nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    let got = format!("{result:?}");
    Err(Error::Device { op: "cuda".into(), what: call.into(), expected: "success".into(), got })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_byte_in_a_text_is_an_error() {
        let source = Source { op: "mish", text: "a\0b", options: &[] };
        assert!(matches!(Program::new(&source, "sm_90"), Err(Error::Compile { .. })));
    }
}
