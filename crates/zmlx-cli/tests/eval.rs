//! `zmlx eval` on files: values and gradients of formulas and of kernels by name, and what it refuses.

use candle_core::{DType, Device, Tensor};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A folder of its own, with x of 4 rows and w.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> candle_core::Result<Folder> {
        let folder = std::env::temp_dir().join(format!("zmlx-eval-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Tensor::arange(0f32, 24.0, &Device::Cpu)?.reshape((4, 6))?.write_npy(folder.join("x.npy"))?;
        Tensor::ones(6, DType::F32, &Device::Cpu)?.write_npy(folder.join("w.npy"))?;
        Ok(Folder(folder))
    }

    /// Runs `zmlx eval` in it: what it says, and its status.
    fn eval(&self, args: &[&str]) -> (String, Option<i32>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zmlx"));
        let output = command.current_dir(&self.0).arg("eval").args(args).args(["--device", "cpu"]).output();
        let output = output.expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.code())
    }

    fn read(&self, file: &str) -> candle_core::Result<Tensor> {
        Tensor::read_npy(self.0.join(file))
    }

    fn holds(&self, file: impl AsRef<Path>) -> bool {
        self.0.join(file).exists()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_formula_and_a_kernel_by_its_name_give_the_same() -> Outcome {
    let f = Folder::new("same")?;
    let of_files = ["--in", "x=x.npy", "--in", "w=w.npy", "--wrt", "x", "--grad", "g.npy", "--out", "y.npy"];
    let formula = "x * rsqrt(mean(x * x) + eps) * w";
    let (said, status) = f.eval(&[&[formula, "--uniform", "eps=0.5"][..], &of_files].concat());
    assert_eq!((&said[..], status), ("y.npy: [4, 6] f32\ng.npy: [4, 6] f32\n", Some(0)));
    let (y, g) = (f.read("y.npy")?, f.read("g.npy")?);
    let (said, status) = f.eval(&[&["rms_norm", "--uniform", "eps=0.5"][..], &of_files].concat());
    assert!(said.contains("rms_norm of the catalog: ") && status == Some(0), "{said}");
    for (a, b) in [(y, f.read("y.npy")?), (g, f.read("g.npy")?)] {
        assert_eq!((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);
    }
    let (said, _) = f.eval(&["dropout", "--in", "x=x.npy", "--uniform", "seed=7", "--out", "d.npy"]);
    assert!(said.starts_with("d.npy: [4, 6] f32\n"), "{said}");
    Ok(())
}

#[test]
fn a_dtype_beside_a_name_converts() -> Outcome {
    let f = Folder::new("dtype")?;
    let (said, _) = f.eval(&["x / 3", "--in", "x:bf16=x.npy", "--out", "y.npy"]);
    assert_eq!(said, "y.npy: [4, 6] bf16, written as f32\n");
    assert_eq!(f.read("y.npy")?.get(0)?.get(1)?.to_scalar::<f32>()?, 0.333_984_38);
    let (said, _) = f.eval(&["x + x", "--in", "x:bool=x.npy", "--out", "y.npy"]);
    assert_eq!(
        (&said[..], f.read("y.npy")?.get(0)?.narrow(0, 0, 2)?.to_vec1::<u8>()?),
        ("y.npy: [4, 6] u8\n", vec![0, 2])
    );
    Ok(())
}

#[test]
fn mistakes_name_what_was_expected_and_leave_no_file() -> Outcome {
    let f = Folder::new("mistakes")?;
    std::fs::write(f.0.join("cut.npy"), &std::fs::read(f.0.join("x.npy"))?[..100])?;
    let with = |more: &[&'static str]| [more, &["--in", "x=x.npy", "--out", "y.npy"]].concat();
    let cases = [
        (vec!["x", "--in", "x=cut.npy", "--out", "y.npy"], "cut.npy: expected 96 bytes of data ([4, 6] of f32), got "),
        (vec!["x", "--in", "x=none.npy", "--out", "y.npy"], "none.npy: expected an array of NumPy (.npy), got "),
        (with(&["x * z"]), "eval: input `z` of the formula, expected --in z=FILE.npy or --uniform"),
        (with(&["x", "--in", "z=w.npy"]), "eval: --in z, expected one of the formula's inputs (x), got"),
        (with(&["x", "--in", "x=w.npy"]), "eval: --in or --uniform x, expected once, got twice"),
        (with(&["x", "--wrt", "z", "--grad", "y2.npy"]), "eval: wrt, expected one of x, got z"),
        (with(&["x", "--wrt", "x", "--grad", "y.npy"]), "eval: --out or --grad y.npy, expected once"),
        (
            with(&["x", "--wrt", "x", "--grad", "g.npy", "--grad-out", "w.npy"]),
            "eval: cotangent of out has shape [6], expected [4, 6]",
        ),
        (vec!["x", "--in", "x=x.npy", "--out", "none/y.npy"], "none/y.npy: expected a file that can be written, got "),
        (vec!["attention", "--in", "q=x.npy", "--out", "y.npy"], "eval: attention, expected a formula, got a kernel"),
    ];
    for (args, told) in cases {
        let (said, status) = f.eval(&args);
        assert!(said.contains(told), "{args:?}: {said}");
        assert_eq!(status, Some(2), "{args:?}");
        assert!(!f.holds("y.npy") && !f.holds("g.npy") && !f.holds("y.npy.part"), "{args:?}");
    }
    Ok(())
}
