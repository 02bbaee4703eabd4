//! What a machine that asks for its script gets: a kernel, or the menu.

use super::catalog::{Catalog, Group, Profile};
use super::labels::{self, Labels};

/// The answer to `/ipxe`.
#[must_use]
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// Boot this profile.
    Kernel {
        /// What to boot.
        profile: &'a Profile,
        /// The role that the machine asked for and now has.
        chosen: Option<&'a str>,
    },
    /// Let somebody choose.
    Menu,
}

/// Decides from what the machine says of itself, the role it is known to have, and the catalog.
pub fn answer<'a>(
    labels: &'a Labels,
    remembered: Option<&str>,
    catalog: &'a Catalog,
) -> Answer<'a> {
    match group(labels, remembered, catalog) {
        Some(group) => Answer::Kernel {
            profile: &group.profile,
            chosen: labels.role().filter(|_| group.selects_by(labels::TYPE)),
        },
        None => Answer::Menu,
    }
}

/// The group of a machine.
///
/// A role asked for by name counts. Without one (`type=auto` or no type) the remembered role is
/// tried first, then the labels alone.
pub fn group<'a>(
    labels: &Labels,
    remembered: Option<&str>,
    catalog: &'a Catalog,
) -> Option<&'a Group> {
    let remembered = remembered.filter(|_| labels.role().is_none());
    remembered
        .and_then(|role| catalog.select(&labels.with_role(role)))
        .or_else(|| catalog.select(labels))
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{JsonFile, default_groups, default_profiles};
    use super::*;

    fn ask(query: &str, remembered: Option<&str>) -> Option<(String, Option<String>)> {
        let mut groups = default_groups();
        groups.push(JsonFile {
            path: "one.json".to_owned(),
            text: r#"{"profile": "worker", "selector": {"mac": "525400000001"}}"#.to_owned(),
        });
        let catalog = Catalog::parse(&groups, &default_profiles()).unwrap();
        let labels = Labels::from_query(query).unwrap();
        match answer(&labels, remembered, &catalog) {
            Answer::Kernel { profile, chosen } => {
                Some((profile.id.clone(), chosen.map(str::to_owned)))
            }
            Answer::Menu => None,
        }
    }

    fn boots(profile: &str, chosen: Option<&str>) -> Option<(String, Option<String>)> {
        Some((profile.to_owned(), chosen.map(str::to_owned)))
    }

    #[test]
    fn an_unknown_machine_gets_the_menu() {
        assert_eq!(ask("type=auto", None), None);
        assert_eq!(ask("", None), None);
        assert_eq!(ask("type=nonsense", None), None);
    }

    #[test]
    fn a_choice_is_remembered() {
        assert_eq!(ask("type=worker", None), boots("worker", Some("worker")));
        assert_eq!(ask("type=auto", Some("worker")), boots("worker", None));
        assert_eq!(ask("", Some("controlplane")), boots("controlplane", None));
    }

    #[test]
    fn a_new_choice_counts_before_an_old_one() {
        assert_eq!(ask("type=worker", Some("controlplane")), boots("worker", Some("worker")));
    }

    #[test]
    fn a_machine_with_its_own_group_needs_no_role() {
        assert_eq!(ask("mac=52-54-00-00-00-01&type=auto", None), boots("worker", None));
        assert_eq!(ask("mac=52-54-00-00-00-01&type=junk", None), boots("worker", None));
        assert_eq!(ask("mac=52-54-00-00-00-01", Some("gone")), boots("worker", None));
    }
}
