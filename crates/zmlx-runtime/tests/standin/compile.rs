//! Text to library. Libraries are kept in cargo's folder for temporary files, by a hash of all they are made of, so that
//! unchanged text compiles once and not at every run of the tests.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{signature::trampolines, translate::translate};

/// The languages that the stand-in reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Cuda,
    Metal,
}

/// Some entries of one text, compiled to a library, and the machine that loads it.
pub struct Unit {
    pub(super) machine: PathBuf,
    pub(super) binary: PathBuf,
}

/// Headers and machine. From a sibling crate the path is the same.
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../zmlx-runtime/standin");

/// What makes a mistake in a kernel an error: reads and writes outside of memory, misaligned vectors, overflow that the
/// language does not define, and NaN in variables that were not set.
const CHECKS: &[&str] = &[
    "-fsanitize=address,alignment,shift,integer-divide-by-zero,signed-integer-overflow",
    "-ftrivial-auto-var-init=pattern",
    "-g1",
];

/// Without optimisation clang takes a fourth of the time (68 kernels: 1.5 s, with -O1 6.3 s), and no read that is wrong
/// but unused goes away. Launches take two to five times as long, which tests of small shapes do not notice.
const COMMON: &[&str] =
    &["-std=c++17", "-O0", "-fPIC", "-shared", "-ffp-contract=off", "-Werror=return-type", "-Wno-sign-compare"];

/// What makes clang read MSL: `half` as parameter and result of functions, literals of type float, attributes that it
/// does not know.
const METAL: &[&str] = &[
    "-std=c++17",
    "-Xclang",
    "-fallow-half-arguments-and-returns",
    "-Xclang",
    "-cl-single-precision-constant",
    "-Wno-unknown-attributes",
    "-ferror-limit=8",
];

/// The two readings of MSL that find errors of Metal's compiler. The first is for a target where both 16-bit float types
/// are built in, as only those may lie in any address space.
const SYNTAX: [(&str, &[&str]); 2] = [
    ("address spaces", &["-fsyntax-only", "-DGPU_ADDRESS_SPACES", "--target=aarch64-linux-gnu"]),
    ("explicit bfloat", &["-fsyntax-only", "-DGPU_EXPLICIT_BFLOAT"]),
];

impl Unit {
    /// Compiles text once; MSL is also read in the two other ways. The message of an error is the compiler's, with lines
    /// of `text`.
    pub fn compile(dialect: Dialect, text: &str, entries: &[&str]) -> Result<Unit, String> {
        let compiler = compiler(dialect).ok_or("no C++ compiler: install clang")?;
        let machine = machine(compiler)?;
        let text = translate(dialect, text)?;
        let calls = trampolines(dialect, &text, entries)?;
        let code = format!("{}\n#line 1 \"entries\"\n{calls}", with_header(dialect, &text));
        let mut arguments: Vec<&str> = [COMMON, CHECKS].concat();
        if cfg!(target_arch = "x86_64") {
            arguments.push("-march=native");
        }
        // clang's `bounds` also has checks that stop without a message, where the address sanitizer would give one.
        arguments.extend(match compiler {
            "clang++" => &["-fsanitize=array-bounds"][..],
            _ => &["-fsanitize=bounds", "-fsanitize-sections=.shared"],
        });
        arguments.push("-fno-sanitize-recover=all");
        if dialect == Dialect::Metal {
            arguments.extend(METAL);
        }
        let script = [format!("-Wl,-T,{HEADERS}/shared.ld")];
        let library = place(compiler, &code, &arguments, &script);
        if !library.exists() {
            if dialect == Dialect::Metal {
                check_metal(compiler, &text)?;
            }
            build(&library, compiler, &code, &arguments, &script)?;
        }
        Ok(Unit { machine, binary: library })
    }
}

fn with_header(dialect: Dialect, text: &str) -> String {
    let (header, name) = match dialect {
        Dialect::Cuda => ("\"cuda.h\"", "kernel.cu"),
        Dialect::Metal => ("<metal_stdlib>", "kernel.metal"),
    };
    format!("#include {header}\n#line 1 \"{name}\"\n{text}")
}

fn check_metal(compiler: &str, text: &str) -> Result<(), String> {
    let input = unique("cc");
    fs::write(&input, with_header(Dialect::Metal, text)).map_err(|e| format!("{}: {e}", input.display()))?;
    for (what, arguments) in SYNTAX {
        run(compiler, &[METAL, arguments].concat(), &input, &[]).map_err(|e| format!("read with {what}: {e}"))?;
    }
    let _ = fs::remove_file(&input);
    Ok(())
}

/// The compiler for a dialect, if this machine has one. Only clang has the vectors of MSL.
pub fn compiler(dialect: Dialect) -> Option<&'static str> {
    static FOUND: OnceLock<[bool; 2]> = OnceLock::new();
    let runs = |name: &str| {
        let quiet = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    let [clang, gcc] = *FOUND.get_or_init(|| [runs("clang++"), runs("g++")]);
    match dialect {
        _ if clang => Some("clang++"),
        Dialect::Cuda if gcc => Some("g++"),
        _ => None,
    }
}

/// The machine, which loads any unit. It is linked with the sanitizers and not itself watched by them.
fn machine(compiler: &str) -> Result<PathBuf, String> {
    static MACHINE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = || {
        let code = fs::read_to_string(format!("{HEADERS}/gpu.cc")).map_err(|e| format!("{HEADERS}/gpu.cc: {e}"))?;
        let compile = ["-std=c++17", "-O2", "-c"];
        let object = place(compiler, &code, &compile, &[]);
        if !object.exists() {
            build(&object, compiler, &code, &compile, &[])?;
        }
        let link = ["-fsanitize=address,undefined", "-rdynamic"];
        let inputs = ["-x", "none", &object.display().to_string(), "-ldl"].map(str::to_owned);
        let machine = place(compiler, "", &link, &inputs);
        if !machine.exists() {
            build(&machine, compiler, "", &link, &inputs)?;
        }
        Ok(machine)
    };
    MACHINE.get_or_init(made).clone()
}

/// Where the result of a compilation is kept: its name is a hash of all it depends on.
fn place(compiler: &str, code: &str, arguments: &[&str], inputs: &[String]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (compiler, code, arguments, inputs).hash(&mut hasher);
    for file in ["gpu.h", "cuda.h", "metal_stdlib", "shared.ld"] {
        fs::read(Path::new(HEADERS).join(file)).unwrap_or_default().hash(&mut hasher);
    }
    folder().join(format!("{:016x}", hasher.finish()))
}

/// Compiles `code` to `made`. `inputs` are further files and what the linker needs.
fn build(made: &Path, compiler: &str, code: &str, arguments: &[&str], inputs: &[String]) -> Result<(), String> {
    let (input, output) = (unique("cc"), unique("out"));
    fs::write(&input, code).map_err(|e| format!("{}: {e}", input.display()))?;
    let mut inputs = inputs.to_vec();
    inputs.extend(["-o".to_owned(), output.display().to_string()]);
    run(compiler, arguments, &input, &inputs)?;
    let _ = fs::remove_file(&input);
    // Another process may have been as fast: then this replaces a file by an equal one.
    fs::rename(&output, made).map_err(|e| format!("{}: {e}", made.display()))
}

fn run(compiler: &str, arguments: &[&str], input: &Path, inputs: &[String]) -> Result<(), String> {
    let run = Command::new(compiler)
        .args(arguments)
        .args(["-I", HEADERS, "-x", "c++"])
        .arg(input)
        .args(inputs)
        .output()
        .map_err(|e| format!("{compiler}: {e}"))?;
    match run.status.success() {
        true => Ok(()),
        false => Err(format!("{compiler}: {}", String::from_utf8_lossy(&run.stderr))),
    }
}

/// Where programs, jobs and results are.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let base = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = base.join("zmlx-standin");
        // If it cannot be made, the first write there says so.
        let _ = fs::create_dir_all(&folder);
        forget_old(&folder);
        folder
    })
}

/// Removes what was made more than a week ago. Who still needs it makes it again.
fn forget_old(folder: &Path) {
    let is_old = |file: &fs::DirEntry| {
        let age = file.metadata().ok()?.modified().ok()?.elapsed().ok()?;
        (age > Duration::from_secs(7 * 24 * 3600)).then_some(())
    };
    for file in fs::read_dir(folder).into_iter().flatten().flatten().filter(|f| is_old(f).is_some()) {
        // Another process may have done it.
        let _ = fs::remove_file(file.path());
    }
}

/// A name of a file that nobody else uses.
pub fn unique(extension: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    folder().join(format!("{}-{count}.{extension}", std::process::id()))
}
