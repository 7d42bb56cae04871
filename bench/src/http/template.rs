//! Configurations of targets as templates: `${name}`, `${if word}`, `${if !word}`, `${each name N}`, `${end}`.

use anyhow::{Context, Result, bail};

/// Fills a template: `is` knows the words of conditions, `named` what stands for a name.
pub(crate) fn fill(
    template: &str,
    is: &dyn Fn(&str) -> bool,
    named: &dyn Fn(&str) -> Option<String>,
) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, tag, after)) = next_tag(rest)? {
        filled += before;
        rest = after;
        if let Some(word) = tag.strip_prefix("if ") {
            let (inner, after) = block(after, tag)?;
            let wanted = word.strip_prefix('!').map_or_else(|| is(word), |word| !is(word));
            if wanted {
                filled += &fill(inner, is, named)?;
            }
            rest = after;
        } else if let Some(each) = tag.strip_prefix("each ") {
            let (inner, after) = block(after, tag)?;
            let (name, count) = each.split_once(' ').context("`${each name N}` needs a number")?;
            for index in 0..count.parse::<u32>().context("`${each name N}` needs a number")? {
                let inside = |asked: &str| {
                    (asked == name).then(|| index.to_string()).or_else(|| named(asked))
                };
                filled += &fill(inner, is, &inside)?;
            }
            rest = after;
        } else {
            filled += &named(tag).with_context(|| format!("nothing is called `${{{tag}}}`"))?;
        }
    }
    Ok(filled + rest)
}

/// What is before the next tag, the tag, and what is behind it.
fn next_tag(text: &str) -> Result<Option<(&str, &str, &str)>> {
    let Some((before, behind)) = text.split_once("${") else { return Ok(None) };
    let (tag, after) = behind.split_once('}').context("`${` without `}`")?;
    Ok(Some((before, tag, after)))
}

/// What is inside a block, up to its own end, and what is behind that.
fn block<'a>(text: &'a str, tag: &str) -> Result<(&'a str, &'a str)> {
    let (mut depth, mut rest) = (1, text);
    while let Some((_, inner, after)) = next_tag(rest)? {
        match inner {
            "end" => depth -= 1,
            inner if inner.starts_with("if ") || inner.starts_with("each ") => depth += 1,
            _ => {}
        }
        if depth == 0 {
            let inside = &text[..text.len() - after.len() - "${end}".len()];
            return Ok((inside, after));
        }
        rest = after;
    }
    bail!("`${{{tag}}}` has no `${{end}}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        let named = |name: &str| (name == "port").then(|| "80".to_owned());
        let filled = fill(template, &|word| word == "tls", &named);
        assert_eq!(
            filled.map_err(|error| error.to_string()),
            Ok(expected.to_owned()),
            "{template}"
        );
    }

    #[test]
    fn templates() {
        check("listen ${port};", "listen 80;");
        check("${if tls}s${end}${if !tls}p${end}", "s");
        check("${if http2}${if tls}a${end}b${end}c", "c");
        check("${each n 3}<${n}:${port}>${end}", "<0:80><1:80><2:80>");
        check("${each a 2}${each b 2}${a}${b} ${end}${end}", "00 01 10 11 ");
    }

    #[test]
    fn mistakes_are_told() {
        for (template, expected) in
            [("${if tls}", "`${if tls}` has no `${end}`"), ("${no}", "nothing is called `${no}`")]
        {
            let error = fill(template, &|_| true, &|_| None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
