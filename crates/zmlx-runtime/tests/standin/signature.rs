//! The parameters of an entry, found in the text, and the function that calls it for one thread.

use super::Dialect;

/// Ids that MSL hands in as parameters; `metal_stdlib` has a function of the same name for each.
const IDS: &[&str] = &[
    "dispatch_threads_per_threadgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
    "thread_index_in_simdgroup",
    "thread_index_in_threadgroup",
    "thread_position_in_grid",
    "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",
    "threadgroups_per_grid",
    "threads_per_grid",
    "threads_per_simdgroup",
    "threads_per_threadgroup",
];

/// Argument tables of Metal have this many places for buffers.
const BUFFERS: usize = 31;

/// C++ that makes the table of `entries`, to stand below their text.
pub fn trampolines(dialect: Dialect, text: &str, entries: &[&str]) -> Result<String, String> {
    let (mut functions, mut table) = (String::new(), String::new());
    for entry in entries {
        let parameters = parameters(text, entry).ok_or_else(|| format!("the text has no kernel {entry}"))?;
        if dialect == Dialect::Metal {
            check_metal(&parameters).map_err(|e| format!("{entry}: {e}"))?;
        }
        let (mut arguments, mut buffers) = (Vec::new(), 0usize);
        for (n, parameter) in parameters.iter().enumerate() {
            let argument = match dialect {
                Dialect::Cuda if parameter.contains('*') => format!("gpu::Buffer{{launch.buffers[{n}]}}"),
                Dialect::Cuda => "gpu::Args{launch}".to_owned(),
                Dialect::Metal => {
                    metal_argument(parameter).ok_or_else(|| format!("{entry}: what is `{parameter}`?"))?
                }
            };
            buffers += usize::from(argument.contains("launch.buffers"));
            arguments.push(argument);
        }
        let arguments = arguments.join(", ");
        functions +=
            &format!("static void run_{entry}(const gpu::Launch& launch) {{ (void)launch; {entry}({arguments}); }}\n");
        let cluster = cluster(text, entry);
        table += &format!("  {{\"{entry}\", {buffers}, {cluster}, run_{entry}}},\n");
    }
    Ok(format!(
        "{functions}extern \"C\" const gpu::Entry gpu_entries[] = {{\n{table}  {{nullptr, 0, 1, nullptr}},\n}};\n"
    ))
}

/// Metal refuses positions and sizes of different dimensions, and places that the argument table does not have.
fn check_metal(parameters: &[String]) -> Result<(), String> {
    let mut dimension = None;
    for parameter in parameters {
        let Some((declaration, attribute)) = parameter.split_once("[[") else { continue };
        let slot = attribute.strip_prefix("buffer(").and_then(|a| a.split(')').next()?.trim().parse::<usize>().ok());
        if slot.is_some_and(|slot| slot >= BUFFERS) {
            return Err(format!("`{parameter}` is past the {BUFFERS} buffers of an argument table"));
        }
        if !["position_in", "threads_per_threadgroup", "_per_grid"].iter().any(|word| attribute.contains(word)) {
            continue;
        }
        let kind = declaration.split_whitespace().next().unwrap_or("");
        let mine = kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(1u32);
        if *dimension.get_or_insert(mine) != mine {
            return Err(format!("`{parameter}` has another dimension than the positions before it"));
        }
    }
    Ok(())
}

fn metal_argument(parameter: &str) -> Option<String> {
    let (declaration, attribute) = parameter.split_once("[[")?;
    let attribute = attribute.split("]]").next()?.trim();
    if IDS.contains(&attribute) {
        return Some(format!("gpu::{attribute}()"));
    }
    if attribute.starts_with("dynamic_shared(") {
        return Some("gpu::Buffer{gpu::dynamic_shared()}".to_owned());
    }
    let slot = attribute.strip_prefix("buffer(")?.strip_suffix(')')?.trim();
    match declaration.contains('*') {
        true => Some(format!("gpu::Buffer{{launch.buffers[{slot}]}}")),
        false => Some("gpu::Args{launch}".to_owned()),
    }
}

/// Blocks of a cluster: what `__cluster_dims__` says in front of the function `name`.
fn cluster(text: &str, name: &str) -> u32 {
    let before = text.find(&format!(" {name}(")).map_or("", |at| &text[..at]);
    let head = &before[before.rfind(['}', ';']).map_or(0, |at| at + 1)..];
    let dims = head.split_once("__cluster_dims__(").and_then(|(_, dims)| dims.split([',', ')']).next());
    dims.and_then(|n| n.trim().parse().ok()).unwrap_or(1)
}

/// The parameters of the function `name`, as written.
fn parameters(text: &str, name: &str) -> Option<Vec<String>> {
    let start = text.match_indices(name).find_map(|(at, _)| {
        let (before, after) = (&text[..at], text[at + name.len()..].trim_start());
        let whole = before.ends_with(char::is_whitespace) && after.starts_with('(');
        let defines = before.trim_end().ends_with(')') || before.trim_end().ends_with("void");
        (whole && defines).then(|| text.len() - after.len() + 1)
    })?;
    let (mut depth, mut parameters, mut current) = (0, Vec::new(), String::new());
    for c in text[start..].chars() {
        match c {
            '(' | '[' | '<' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '>' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parameters.push(std::mem::take(&mut current));
        } else {
            current.push(c);
        }
    }
    parameters.push(current);
    Some(parameters.iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_behind_launch_bounds_and_calls() {
        let text = "float f(float x);\nextern \"C\" __global__ void __launch_bounds__(256) f(const float* x, const f_args args) {}";
        assert_eq!(parameters(text, "f").unwrap(), ["const float* x", "const f_args args"]);
        assert_eq!(parameters(text, "g"), None);
    }

    #[test]
    fn metal_parameters_become_memory_ids_and_arguments() {
        let text = "kernel void f(device const float* x [[buffer(1)]], constant f_args& args [[buffer(2)]],\n  \
                    uint3 t [[thread_position_in_threadgroup]]) {}";
        let code = trampolines(Dialect::Metal, text, &["f"]).unwrap();
        assert!(
            code.contains(
                "f(gpu::Buffer{launch.buffers[1]}, gpu::Args{launch}, gpu::thread_position_in_threadgroup())"
            )
        );
        assert!(trampolines(Dialect::Metal, "kernel void f(float x) {}", &["f"]).unwrap_err().contains("float x"));
    }

    #[test]
    fn metal_parameters_that_apple_refuses_are_refused() {
        let error = |text: &str| trampolines(Dialect::Metal, text, &["f"]).unwrap_err();
        let mixed =
            "kernel void f(uint t [[thread_position_in_threadgroup]], uint3 b [[threadgroup_position_in_grid]]) {}";
        assert!(error(mixed).contains("another dimension"));
        assert!(error("kernel void f(device float* x [[buffer(31)]]) {}").contains("31 buffers"));
    }
}
