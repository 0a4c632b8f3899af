//! What is printed reads back as the same: random Programs, random formulas.

use zmlx_ir::{
    DType, Formula, Program,
    expr::functions,
    program::random::{Options, Random, program},
};

const CASES: u64 = 20_000;

#[test]
fn programs_read_back() {
    for seed in 0..CASES {
        let p = program(seed, &Options { wild: true, ..Options::default() });
        assert_eq!(p.verify(), Ok(()), "{p}");
        assert_eq!(Program::from_text(&p.to_string()).as_ref(), Ok(&p), "{p}");
    }
}

#[test]
fn formulas_read_back() {
    for seed in 0..CASES {
        let mut writer = Writer { r: Random::new(seed), names: vec!["x", "w", "b", "long_name"] };
        let text = writer.formula();
        let formula = Formula::parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let printed = formula.to_string();
        let again = Formula::parse(&printed).unwrap_or_else(|e| panic!("{text}\nis printed as\n{e}"));
        assert_eq!(again, formula, "{text}\nis printed as\n{printed}");
        assert_eq!(again.to_string(), printed, "{text}");
    }
}

/// Writes formulas.
struct Writer {
    r: Random,
    names: Vec<&'static str>,
}

impl Writer {
    fn formula(&mut self) -> String {
        let mut text = String::new();
        if self.r.chance(1, 4) {
            text += "fn helper(p, q) = p * q + p; ";
        }
        let helper = !text.is_empty();
        for name in ["s", "t", "u"] {
            if self.r.chance(1, 3) {
                let value = self.value(4);
                text += &format!("let {name} = {value}; ");
                self.names.push(name);
            }
        }
        let last = self.value(6);
        let last = if helper { format!("helper({last}, x)") } else { last };
        match self.r.below(4) {
            0 => {
                let dtype = self.r.pick(&DType::ALL);
                let other = self.value(3);
                text + &format!("out y: {dtype} = {last}; out z = {other} + y")
            }
            _ => text + &last,
        }
    }

    fn value(&mut self, depth: usize) -> String {
        const SIGNS: [&str; 20] = [
            "+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!=", "&&", "||", "&", "|", "^", "<<", ">>", "+", "*",
        ];
        if depth == 0 {
            return self.atom();
        }
        match self.r.below(10) {
            0 => self.atom(),
            1..5 => {
                let sign = self.r.pick(&SIGNS);
                let (a, b) = (self.value(depth - 1), self.value(depth - 1));
                // with and without the brackets that make the precedence plain
                if self.r.chance(1, 2) { format!("({a}) {sign} ({b})") } else { format!("{a} {sign} {b}") }
            }
            5 => {
                let (sign, a) = (self.r.pick(&["-", "!", "~"]), self.value(depth - 1));
                format!("{sign}({a})")
            }
            6 => {
                let (a, b, c) = (self.value(depth - 1), self.value(depth - 1), self.value(depth - 1));
                format!("(({a}) ? {b} : {c})")
            }
            7 => {
                let (dtype, a) = (self.r.pick(&DType::ALL), self.value(depth - 1));
                format!("{dtype}({a})")
            }
            _ => {
                let table = functions();
                let f = &table[self.r.below(table.len())];
                let most = f.arity.1.min(f.arity.0 + 2);
                let args = f.arity.0 + self.r.below(most - f.arity.0 + 1);
                let mut args: Vec<String> = (0..args).map(|_| self.value(depth - 1)).collect();
                if f.takes_rank() {
                    args[1] = (1 + self.r.below(4)).to_string();
                }
                format!("{}({})", f.name, args.join(", "))
            }
        }
    }

    fn atom(&mut self) -> String {
        match self.r.below(8) {
            0 => self.r.pick(&["row", "col", "rows", "cols", "PI", "INFINITY", "NAN"]).into(),
            1 => format!("{}", self.r.below(300)),
            2 => format!("{:?}", self.r.unit() * 1e3),
            3 => format!("{:e}", self.r.unit() * 1e-20),
            4 => format!("x[{}]", self.r.pick(&["0", "w", "cols - 1"])),
            _ => {
                let name = self.r.below(self.names.len());
                self.names[name].into()
            }
        }
    }
}
