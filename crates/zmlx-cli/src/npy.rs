//! NumPy's files, read and written: one array a file, in either order of its elements.

use candle_core::{DType, Device, Tensor};
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Types of both, by NumPy's code of one without the order of its bytes.
const TYPES: [(&str, DType); 9] = [
    ("b1", DType::U8),
    ("u1", DType::U8),
    ("u4", DType::U32),
    ("i2", DType::I16),
    ("i4", DType::I32),
    ("i8", DType::I64),
    ("f2", DType::F16),
    ("f4", DType::F32),
    ("f8", DType::F64),
];

/// Reads an array; truth values become u8.
pub fn read(file: &Path) -> Result<Tensor, String> {
    let wrong = |expected: &str, got: &dyn Display| format!("{}: expected {expected}, got {got}", file.display());
    let bytes = fs::read(file).map_err(|e| wrong("an array of NumPy (.npy)", &e))?;
    parse(&bytes).map_err(|(expected, got)| wrong(&expected, &got))
}

/// What was expected, and what came.
type Wrong = (String, String);

fn wrong(expected: impl Into<String>, got: impl Into<String>) -> Wrong {
    (expected.into(), got.into())
}

fn parse(bytes: &[u8]) -> Result<Tensor, Wrong> {
    const WHOLE: &str = "an array of NumPy (.npy)";
    if bytes.starts_with(b"PK") {
        return Err(wrong(WHOLE, "a zip archive: save each array of an .npz on its own"));
    }
    if !bytes.starts_with(MAGIC) {
        return Err(wrong(WHOLE, format!("{} bytes that do not begin as one does", bytes.len())));
    }
    let cut = || wrong(WHOLE, "a header that is cut off");
    let (major, rest) = (bytes.get(6).ok_or_else(cut)?, bytes.get(8..).ok_or_else(cut)?);
    let wide = match major {
        1 => 2,
        2 | 3 => 4,
        other => return Err(wrong("NumPy's format 1, 2 or 3", other.to_string())),
    };
    let length = rest.get(..wide).ok_or_else(cut)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
    let header = String::from_utf8_lossy(rest[wide..].get(..length).ok_or_else(cut)?).into_owned();
    let data = &rest[wide + length..];

    let field = |name: &str| {
        let found = header.split_once(&format!("'{name}':")).map(|(_, value)| value.trim_start());
        found.ok_or_else(|| wrong(format!("`{name}` in its header"), "none"))
    };
    let dtype = type_of(field("descr")?)?;
    let fortran = field("fortran_order")?.starts_with("True");
    let shape = field("shape")?;
    let inside = shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(inside, _)| inside);
    let sizes = inside.map(|s| s.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect());
    let Some(Ok(mut dims)) = sizes.map(|s: Result<Vec<usize>, _>| s) else {
        return Err(wrong("a shape in its header", shape.chars().take(40).collect::<String>()));
    };
    let size = dims.iter().try_fold(dtype.size_in_bytes(), |n, d| n.checked_mul(*d));
    let Some(data) = size.and_then(|size| data.get(..size)) else {
        let size = size.map_or("more than there can be".into(), |n| n.to_string());
        let expected = format!("{size} bytes of data ({dims:?} of {})", dtype.as_str());
        return Err(wrong(expected, format!("{}: it is cut off", data.len())));
    };
    if fortran {
        dims.reverse();
    }
    let turned: Vec<usize> = (0..dims.len()).rev().collect();
    let tensor = Tensor::from_raw_buffer(data, dtype, &dims, &Device::Cpu);
    let tensor = if fortran { tensor.and_then(|t| t.permute(turned)) } else { tensor };
    tensor.map_err(|e| wrong("a tensor", e.to_string()))
}

/// The dtype of `'<f4'` and what follows.
fn type_of(descr: &str) -> Result<DType, Wrong> {
    let code = descr.strip_prefix('\'').and_then(|s| s.split_once('\'')).map(|(code, _)| code);
    let known = code.and_then(|code| {
        let bare = code.strip_prefix(['<', '|', '=']).unwrap_or(code);
        TYPES.iter().find(|t| t.0 == bare)
    });
    let got = code.map_or_else(|| "records".into(), |code| format!("`{code}`"));
    match (known, code) {
        (Some((_, dtype)), _) => Ok(*dtype),
        (None, Some(code)) if code.starts_with('>') => Err(wrong(
            "numbers whose low byte comes first",
            format!("{got} (save x.astype(x.dtype.newbyteorder('<')))"),
        )),
        _ => Err(wrong("an array of bool, uint8, uint32, int16, int32, int64, float16, float32 or float64", got)),
    }
}

/// Writes all of them or, if one fails, none: each beside its file first, which takes its place at the end.
pub fn write(results: &[(PathBuf, Tensor)]) -> Result<(), String> {
    let mut parts: Vec<(PathBuf, PathBuf)> = vec![];
    let written = results.iter().try_for_each(|(file, tensor)| {
        // a link stays one
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        if fs::metadata(&file).is_ok_and(|m| !m.is_file()) {
            return one(&file, &file, tensor); // /dev/stdout
        }
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        parts.push((part.clone(), file.clone()));
        one(&part, &file, tensor)
    });
    let moved = written.and_then(|()| {
        parts.iter().try_for_each(|(part, file)| fs::rename(part, file).map_err(|e| unwritten(file, &e)))
    });
    if moved.is_err() {
        parts.iter().for_each(|(part, _)| drop(fs::remove_file(part)));
    }
    moved
}

/// What a tensor is written as: NumPy has no bf16, so that becomes f32.
pub fn dtype(tensor: &Tensor) -> DType {
    if tensor.dtype() == DType::BF16 { DType::F32 } else { tensor.dtype() }
}

fn one(to: &Path, file: &Path, tensor: &Tensor) -> Result<(), String> {
    let here = tensor.to_device(&Device::Cpu).and_then(|t| t.to_dtype(dtype(tensor))?.contiguous());
    here.and_then(|t| t.write_npy(to)).map_err(|e| unwritten(file, &e))
}

fn unwritten(file: &Path, why: &dyn Display) -> String {
    format!("{}: expected a file that can be written, got {why}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of NumPy's.
    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        bytes.extend(data);
        bytes
    }

    fn told(bytes: &[u8]) -> String {
        parse(bytes).map_or_else(|(expected, got)| format!("expected {expected}, got {got}"), |t| format!("{t:?}"))
    }

    #[test]
    fn either_order_truth_values_and_scalars_are_read() -> Result<(), Box<dyn std::error::Error>> {
        let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let read = |fortran, shape| parse(&file("'<f4'", fortran, shape, &data)).map_err(|e| e.1);
        assert_eq!(read("False", "(2, 3)")?.to_vec2::<f32>()?, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(read("True", "(2, 3)")?.to_vec2::<f32>()?, [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]);
        assert_eq!(read("False", "()")?.to_scalar::<f32>()?, 1.0);
        assert_eq!(read("False", "(0, 3)")?.dims(), [0, 3]);
        assert_eq!(read("True", "(6,)")?.dims(), [6]);
        let bools = parse(&file("'|b1'", "False", "(2,)", &[1, 0])).map_err(|e| e.1)?;
        assert_eq!(bools.to_vec1::<u8>()?, [1, 0]);
        Ok(())
    }

    #[test]
    fn what_cannot_be_read_is_said_with_what_was_expected() {
        let whole = "expected an array of NumPy (.npy), got ";
        assert_eq!(told(b""), format!("{whole}0 bytes that do not begin as one does"));
        assert_eq!(told(b"x,y\n1,2\n"), format!("{whole}8 bytes that do not begin as one does"));
        assert!(told(b"PK\x03\x04").contains("a zip archive"));
        for cut in [6, 7, 9, 20] {
            assert_eq!(told(&file("'<f4'", "False", "(2,)", &[])[..cut]), format!("{whole}a header that is cut off"));
        }
        assert_eq!(
            told(&file("'<f4'", "False", "(2, 3)", &[0; 23])),
            "expected 24 bytes of data ([2, 3] of f32), got 23: it is cut off"
        );
        assert!(told(&file("'<f4'", "False", "(4294967296, 4294967296, 2)", &[])).contains("more than there can be"));
        assert!(
            told(&file("'>f4'", "False", "(1,)", &[0; 4]))
                .starts_with("expected numbers whose low byte comes first, got `>f4`")
        );
        for descr in ["'|O'", "'<c8'", "'<U3'", "'|i1'"] {
            let expected = format!(
                "expected an array of bool, uint8, uint32, int16, int32, int64, float16, float32 or float64, got `{}`",
                descr.trim_matches('\'')
            );
            assert_eq!(told(&file(descr, "False", "(1,)", &[0; 8])), expected);
        }
        assert!(told(&file("[('a', '<f4')]", "False", "(1,)", &[0; 4])).ends_with("got records"));
        assert!(told(&file("'<f4'", "False", "(-1,)", &[])).contains("a shape in its header"));
    }

    #[test]
    fn all_files_are_written_or_none() -> Result<(), Box<dyn std::error::Error>> {
        let folder = std::env::temp_dir().join(format!("zmlx-npy-test-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
        let (a, b) = (folder.join("a.npy"), folder.join("b.npy"));
        let why = write(&[(a.clone(), x.clone()), (folder.join("none/c.npy"), x.clone())]).expect_err("no such folder");
        assert!(why.contains("c.npy: expected a file that can be written, got "), "{why}");
        assert_eq!(fs::read_dir(&folder)?.count(), 0);
        write(&[(a.clone(), x.clone()), (b.clone(), x.to_dtype(DType::BF16)?)])?;
        assert_eq!((read(&a)?.to_vec1::<f32>()?, read(&b)?.dtype()), (vec![1.0, 2.0], DType::F32));
        fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
