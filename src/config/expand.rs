//! Variables of the environment inside of values.
//!
//! Rule: `${NAME}` is the variable, which must be there; `${NAME:-text}` is the text if it is not there or empty; `$$` is a dollar,
//! and any other dollar is itself. What was put in is not looked at again, and comes after the YAML was read, so it can be no YAML.

/// The text with its variables, or what is wrong with it.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut expanded, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some((inside, after)) = inside.split_once('}') else {
                return Err("${ has no } after it; write $$ for a dollar".to_owned());
            };
            expanded.push_str(&one(inside, variable)?);
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn one(inside: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, otherwise) = inside.split_once(":-").map_or((inside, None), |(name, text)| (name, Some(text)));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!(
            "${{{inside}}} names no variable; write ${{NAME}} or ${{NAME:-default}}, and $$ for a dollar"
        ));
    }
    match (variable(name), otherwise) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(otherwise)) => Ok(otherwise.to_owned()),
        (None, None) => Err(format!("the variable {name} is not set; set it, or write ${{{name}:-default}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_in_braces_and_dollars_are_doubled() {
        let variable = |name: &str| match name {
            "HOST" => Some("prometheus".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST} $$ a: b".to_owned()),
            _ => None,
        };
        for (text, want) in [
            ("http://${HOST}:9090", Ok("http://prometheus:9090")),
            ("${HOST}${HOST}", Ok("prometheusprometheus")),
            ("${NO:-a:-b}", Ok("a:-b")),
            ("${EMPTY}|${EMPTY:-x}|${NO:-}", Ok("|x|")),
            ("${TRICK}", Ok("${HOST} $$ a: b")),
            ("$${HOST} $HOST ^a$ $", Ok("${HOST} $HOST ^a$ $")),
            ("", Ok("")),
            ("${NO}", Err("the variable NO is not set")),
            ("${HOST", Err("has no }")),
            ("${}", Err("names no variable")),
            ("${1A}", Err("names no variable")),
            ("${A B}", Err("names no variable")),
        ] {
            match (expand(text, &variable), want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want, "{text}"),
                (Err(found), Err(want)) => assert!(found.contains(want), "{text}: {found}"),
                (found, want) => panic!("{text}: {found:?}, and not {want:?}"),
            }
        }
    }
}
