//! Reading the shape of a definition, as logs record it.

/// A step in a recorded shape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::saga) struct ShapeStep {
    pub name: String,
    /// The letter of its sort: `c`, `p` and `r` for an action, `C` and `P` for a child saga, `w` for a time, `s` and `o`
    /// for a signal.
    pub sort: char,
}

/// Reads the steps of a shape that is not a digest. Returns `None` for a digest, and for a text that is not a shape.
///
/// Each step is written as `name:sort[parents];`. A name may contain these characters too, so a step ends at the
/// first place where the rest of it can be read.
pub(in crate::saga) fn steps(shape: &str) -> Option<Vec<ShapeStep>> {
    let mut steps = Vec::new();
    let mut rest = shape;
    while !rest.is_empty() {
        let (step, after) = ends(rest).find_map(|(colon, end)| step(rest, colon, end))?;
        steps.push(step);
        rest = after;
    }
    (!steps.is_empty()).then_some(steps)
}

/// Returns where a step may end: the place of `:` before its sort, and the place after its `];`.
fn ends(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    text.match_indices("];").filter_map(|(end, close)| {
        let open = text.get(..end)?.rfind('[')?;
        let colon = text.get(..open)?.rfind(':')?;
        Some((colon, end + close.len()))
    })
}

fn step(text: &str, colon: usize, end: usize) -> Option<(ShapeStep, &str)> {
    let name = text.get(..colon).filter(|name| !name.is_empty())?;
    let (sort, parents) = text.get(colon + 1..end)?.strip_suffix("];")?.split_once('[')?;
    let mut letters = sort.chars();
    let sort =
        letters.next().filter(|sort| sort.is_ascii_alphabetic() && letters.next().is_none())?;
    let is_parents = parents.chars().all(|one| one.is_ascii_digit() || matches!(one, ',' | ' '));
    let step = ShapeStep { name: name.to_owned(), sort };
    is_parents.then_some((step, text.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_and_a_digest_is_not() {
        let read = |shape| {
            let steps = steps(shape)?.into_iter();
            Some(steps.map(|step| (step.name, step.sort)).collect::<Vec<_>>())
        };
        let named = |steps: &[(&str, char)]| {
            Some(steps.iter().map(|(name, sort)| ((*name).to_owned(), *sort)).collect::<Vec<_>>())
        };
        assert_eq!(
            read("a:c[];b c:p[0];d:r[0, 1];e:C[];"),
            named(&[("a", 'c'), ("b c", 'p'), ("d", 'r'), ("e", 'C')])
        );
        assert_eq!(read("at 9:30 [x];:w[];ok:s[0];"), named(&[("at 9:30 [x];", 'w'), ("ok", 's')]));
        for text in ["", "6c62272e07bb014262b821756295c58d", "a:c[]", "a:c[];b", ":c[];", "a:cc[];"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
