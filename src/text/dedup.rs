//! Which texts belong together, so that a split never tears them apart.

use std::collections::HashMap;

/// Gives each group of lines a number; groups that share a line have the same one (union-find).
pub fn group_by_shared_lines(groups: &[Vec<String>]) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..groups.len()).collect();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (group, lines) in groups.iter().enumerate() {
        for line in lines {
            let other = *first.entry(line).or_insert(group);
            let (a, b) = (root(&mut parent, group), root(&mut parent, other));
            // The smaller number wins, so the result does not depend on the order of lines.
            parent[a.max(b)] = a.min(b);
        }
    }
    (0..groups.len()).map(|group| root(&mut parent, group)).collect()
}

fn root(parent: &mut [usize], mut of: usize) -> usize {
    while parent[of] != of {
        parent[of] = parent[parent[of]];
        of = parent[of];
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_share_a_line_are_one() {
        let group = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let groups = [group(&["a", "b"]), group(&["c"]), group(&["d", "b"]), group(&["e", "d"]), group(&[])];
        assert_eq!(group_by_shared_lines(&groups), [0, 1, 0, 0, 4]);
    }
}
