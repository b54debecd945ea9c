use proptest::prelude::*;
use serde_json::json;

use super::SpecChangeState::{Confirmed, KindLost, Unconfirmed};
use super::*;
use crate::registry::Registry;

/// What there is at one time: name, image, source Secret, generation and, in the number of their kind, uid.
#[derive(Clone, Debug, Default)]
struct World {
    there: BTreeMap<String, (String, String, i64, u32)>,
    changes: SpecChanges,
    now: i64,
    incarnation: u32,
}

impl World {
    /// A list shows these, each with an image.
    fn of(registries: &[(&str, &str)]) -> Self {
        let mut world = Self::default();
        for (name, image) in registries {
            world.set(name, image);
        }
        world.show_list();
        world
    }

    fn set(&mut self, name: &str, image: &str) {
        self.set_with(name, image, "login");
    }

    fn set_with(&mut self, name: &str, image: &str, secret: &str) {
        let known = self.there.get(name);
        let (generation, incarnation) = known.map_or((1, self.incarnation), |known| {
            let (_, _, generation, incarnation) = known;
            (generation + 1, *incarnation)
        });
        let made = (image.to_owned(), secret.to_owned(), generation, incarnation);
        self.there.insert(name.to_owned(), made);
    }

    fn build(&self) -> Arc<Registries> {
        let registries = self.there.iter().map(|(name, one)| {
            let (image, secret, generation, incarnation) = one;
            let uid = format!("{name}-{incarnation}");
            let registry = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": name, "uid": uid, "generation": generation},
                "spec": {
                    "images": [image], "namespaceSelector": {},
                    "static": {"secretRef": {"name": secret}},
                },
            });
            serde_json::from_value::<Registry>(registry).unwrap()
        });
        Arc::new(Registries::build(registries))
    }

    fn show(&mut self, name: &str) {
        let now = at(self.now);
        self.changes.note_event(name, &self.build(), now);
    }

    fn show_list(&mut self) {
        self.show_list_of(Some(self.incarnation));
    }

    /// A list of a CRD of this number, or of one that cannot be read.
    fn show_list_of(&mut self, incarnation: Option<u32>) {
        let crd = incarnation.map(|number| Arc::from(number.to_string()));
        self.changes.note_list(&self.build(), crd, at(self.now));
    }

    /// An admin writes one, and the watch shows it.
    fn apply(&mut self, name: &str, image: &str) {
        self.set(name, image);
        self.show(name);
    }

    /// One is deleted, and the watch shows it.
    fn delete(&mut self, name: &str) {
        self.there.remove(name);
        self.show(name);
    }

    /// The kind is served 2 s later.
    fn confirm(&mut self) {
        self.confirm_by(Some(self.incarnation));
    }

    /// By a CRD of this number, or one that cannot be read.
    fn confirm_by(&mut self, incarnation: Option<u32>) {
        let crd = incarnation.map(|number| number.to_string());
        let until = self.changes.count();
        self.changes.confirm(until, crd.as_deref(), at(self.now));
    }

    fn find(&self, key: &str) -> Option<SpecChangeState> {
        self.changes.find(&Labels::new(), "pullpass", key)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

const THREE: [(&str, &str); 3] = [
    ("a", "a.example.com"),
    ("b", "b.example.com"),
    ("c", "c.example.com"),
];

#[test]
fn takes_any_number_of_deletions_as_orders_once_the_kind_is_known_to_be_there() {
    for deleted in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
        let mut world = World::of(&THREE);
        for name in deleted {
            world.delete(name);
        }
        for (name, image) in THREE {
            let state = deleted.contains(&name).then_some(Unconfirmed);
            assert_eq!(world.find(image), state, "{name} of {deleted:?}");
        }
        world.confirm();
        for (name, image) in THREE {
            let state = deleted.contains(&name).then_some(Confirmed);
            assert_eq!(world.find(image), state, "{name} of {deleted:?}");
        }
    }
}

#[test]
fn takes_an_order_for_what_the_registry_gave_in_its_secret_alone() {
    let mut world = World::of(&[("a", "a.example.com/x"), ("b", "b.example.com")]);
    world.delete("a");
    world.confirm();
    assert_eq!(world.find("a.example.com/x/y"), Some(Confirmed));
    assert_eq!(world.find("a.example.com"), None);
    let labels = Labels::new();
    let other = world.changes.find(&labels, "pullpass-a", "a.example.com/x");
    assert_eq!(other, None);
    assert_eq!(world.find("no key"), None);
}

#[test]
fn takes_any_number_of_narrowed_specs_as_orders() {
    let mut world = World::of(&THREE);
    world.apply("a", "a.example.com/x");
    world.apply("b", "b.example.com/x");
    world.confirm();
    for image in ["a.example.com", "a.example.com/y", "b.example.com"] {
        assert_eq!(world.find(image), Some(Confirmed), "{image}");
    }
    assert_eq!(world.find("c.example.com"), None);
}

#[test]
fn takes_an_earlier_spec_or_another_object_for_no_order() {
    for (generation, incarnation) in [(1, 0), (0, 0), (2, 1)] {
        let mut world = World::of(&THREE);
        let image = "a.example.com/x".to_owned();
        let back = (image, "login".to_owned(), generation, incarnation);
        world.there.insert("a".to_owned(), back);
        world.show("a");
        world.confirm();
        assert_eq!(
            world.find("a.example.com"),
            None,
            "{generation} {incarnation}"
        );
    }
}

#[test]
fn takes_what_a_list_misses_for_no_order() {
    let mut world = World::of(&THREE);
    world.there.remove("a");
    world.set("b", "b.example.com/x");
    world.show_list();
    world.confirm();
    for (_, image) in THREE {
        assert_eq!(world.find(image), None, "{image}");
    }
}

#[test]
fn takes_a_list_that_misses_all_for_a_kind_that_was_lost() {
    // Nothing is there, or others are, or the same ones made anew.
    for there in [0, 1, 2] {
        let mut world = World::of(&THREE);
        world.there.clear();
        world.incarnation = 1;
        if there > 0 {
            world.set("other", "other.example.com");
        }
        if there > 1 {
            world.set("a", "a.example.com");
        }
        world.show_list();
        world.confirm();
        assert_eq!(world.find("b.example.com"), Some(KindLost), "{there}");
        let lost = (there < 2).then_some(KindLost);
        assert_eq!(world.find("a.example.com"), lost, "{there}");
    }
}

#[test]
fn takes_deletions_for_no_order_when_the_kind_goes() {
    let mut world = World::of(&THREE);
    world.delete("a");
    world.confirm();
    world.delete("b");
    world.changes.lose_kind();
    world.delete("c");
    world.changes.lose_kind();
    assert_eq!(world.find("a.example.com"), Some(Confirmed), "before that");
    assert_eq!(world.find("b.example.com"), Some(KindLost));
    assert_eq!(world.find("c.example.com"), Some(KindLost));
    // Nothing makes an order of it any more, and it is not forgotten; nor is what is open, where nobody leads who asks.
    world.confirm();
    world.apply("c", "c.example.com/x");
    world.delete("c");
    world.now = 100_000;
    world.apply("d", "d.example.com");
    assert_eq!(world.find("c.example.com/x"), Some(Unconfirmed));
    assert_eq!(world.find("a.example.com"), None);
    assert_eq!(world.find("b.example.com"), Some(KindLost));
    world.changes.forget_lost_kind();
    assert_eq!(world.find("b.example.com"), None);
}

#[test]
fn takes_what_was_seen_deleted_for_an_order_whatever_a_list_shows_then() {
    let mut world = World::of(&THREE);
    for (name, image) in THREE {
        world.delete(name);
        world.show_list();
        assert_eq!(world.find(image), Some(Unconfirmed));
    }
    world.confirm();
    for (_, image) in THREE {
        assert_eq!(world.find(image), Some(Confirmed));
    }
}

#[test]
fn takes_changes_for_no_orders_unless_the_crd_is_that_of_before() {
    for (listed, confirmed, state) in [
        (Some(0), Some(0), Confirmed),
        (Some(0), Some(1), KindLost),
        (Some(0), None, KindLost),
        (None, Some(0), KindLost),
        (None, None, KindLost),
    ] {
        // The watch may show the Registries of the later one meanwhile.
        for is_seen in [false, true] {
            let mut world = World::of(&[]);
            for (name, image) in THREE {
                world.set(name, image);
            }
            world.show_list_of(listed);
            world.delete("a");
            world.apply("b", "b.example.com/x");
            if is_seen {
                world.show_list_of(confirmed);
            }
            world.confirm_by(confirmed);
            for image in ["a.example.com", "b.example.com"] {
                let found = world.find(image);
                assert_eq!(found, Some(state), "{listed:?} {confirmed:?} {is_seen}");
            }
        }
    }
}

#[test]
fn takes_what_a_list_of_another_crd_misses_for_lost() {
    let mut world = World::of(&THREE);
    world.there.remove("a");
    let mut same = world.clone();
    for crd in [Some(0), None] {
        same.show_list_of(crd);
        assert_eq!(same.find("a.example.com"), None, "{crd:?}");
    }
    world.show_list_of(Some(1));
    assert_eq!(world.find("a.example.com"), Some(KindLost));
}

#[test]
fn confirms_no_later_change_than_was_asked_about() {
    let mut world = World::of(&THREE);
    world.delete("a");
    let asked = world.changes.count();
    world.delete("b");
    world.changes.confirm(asked, Some("0"), at(world.now));
    assert_eq!(world.find("a.example.com"), Some(Confirmed));
    assert_eq!(world.find("b.example.com"), Some(Unconfirmed));
}

#[test]
fn takes_registry_that_breaks_a_rule_for_no_order() {
    let mut world = World::of(&THREE);
    world.apply("a", "not an image");
    world.confirm();
    assert_eq!(world.find("a.example.com"), None);
    // To delete it is one, and so is to mend it with less in it: against what it gave before.
    let mut mended = world.clone();
    mended.apply("a", "a.example.com/x");
    mended.confirm();
    assert_eq!(mended.find("a.example.com/y"), Some(Confirmed));
    world.delete("a");
    world.confirm();
    assert_eq!(world.find("a.example.com"), Some(Confirmed));
}

#[test]
fn takes_anything_for_lost_with_a_registry_that_was_never_seen_valid() {
    let mut world = World::of(&[("a", "not an image"), ("b", "b.example.com")]);
    // To delete it alone orders nothing: nobody knows what it gave.
    let mut deleted = world.clone();
    deleted.delete("a");
    assert_eq!(deleted.find("a.example.com"), Some(Unconfirmed));
    deleted.confirm();
    assert_eq!(deleted.find("a.example.com"), None);
    // It goes with the kind, as events show or a list does.
    for is_seen in [true, false] {
        let mut world = world.clone();
        if is_seen {
            world.delete("a");
            world.delete("b");
            world.changes.lose_kind();
        } else {
            world.there.clear();
            world.show_list();
        }
        world.confirm();
        assert_eq!(world.find("a.example.com"), Some(KindLost), "{is_seen}");
        // Until it is there again, and breaks no rule, or an admin confirms it.
        let mut back = world.clone();
        back.apply("a", "c.example.com");
        assert_eq!(back.find("a.example.com"), None, "{is_seen}");
        world.changes.forget_lost_kind();
        assert_eq!(world.find("a.example.com"), None, "{is_seen}");
    }
    world.confirm();
    assert_eq!(world.find("a.example.com"), None, "it is there");
}

#[test]
fn an_order_waits_while_its_registry_breaks_a_rule() {
    let mut world = World::of(&[("a", "a.example.com")]);
    world.apply("a", "a.example.com/x");
    world.confirm();
    assert_eq!(world.find("a.example.com/y"), Some(Confirmed));
    world.apply("a", "not an image");
    assert_eq!(world.find("a.example.com/y"), None);
    world.apply("a", "b.example.com");
    world.confirm();
    assert_eq!(world.find("a.example.com/y"), Some(Confirmed));
}

#[test]
fn takes_no_order_for_one_against_what_was_given_again_since() {
    let mut world = World::of(&THREE[..2]);
    world.delete("a");
    world.confirm();
    world.apply("a", "a.example.com");
    world.apply("a", "not an image");
    assert_eq!(world.find("a.example.com"), None, "it broke a rule");
    world.apply("b", "a.example.com");
    world.confirm();
    assert_eq!(world.find("b.example.com"), Some(Confirmed));
    world.apply("b", "not an image");
    assert_eq!(world.find("a.example.com"), None, "another one gave it");
    world.apply("a", "a.example.com");
    world.delete("a");
    world.confirm();
    assert_eq!(world.find("a.example.com"), Some(Confirmed));
    // What went with the kind is no order, whatever was ordered earlier.
    world.apply("a", "a.example.com");
    world.delete("a");
    world.changes.lose_kind();
    assert_eq!(world.find("a.example.com"), Some(KindLost));
}

#[test]
fn forgets_an_order_after_an_hour() {
    let mut world = World::of(&THREE);
    world.delete("a");
    world.confirm();
    for (passed, state) in [(3600, Some(Confirmed)), (3601, None)] {
        world.now = passed;
        world.apply("b", "b.example.com/x");
        assert_eq!(world.find("a.example.com"), state);
    }
}

#[test]
fn remembers_an_order_for_an_hour_since_it_was_confirmed() {
    let mut world = World::of(&THREE);
    world.delete("a");
    // Nobody led, who asks.
    world.now = 10_000;
    world.confirm();
    for (passed, state) in [
        (10_001, Some(Confirmed)),
        (13_600, Some(Confirmed)),
        (13_601, None),
    ] {
        world.now = passed;
        world.apply("b", "b.example.com/x");
        assert_eq!(world.find("a.example.com"), state, "{passed}");
    }
}

#[test]
fn remembers_no_more_than_it_may_and_forgets_orders_first() {
    let mut world = World::of(&THREE[..1]);
    world.delete("a");
    world.confirm();
    for number in 0..=MOST {
        // One object instead of all that there are each time.
        world.apply("b", &format!("b.example.com/{number}"));
        world.confirm();
    }
    assert!(world.changes.log.len() <= MOST && world.changes.past.len() <= MOST);
    assert_eq!(world.find("a.example.com"), None);
    assert_eq!(world.find("b.example.com/77"), Some(Confirmed));
}

#[test]
fn tells_since_when_a_source_is_another() {
    let source = |secret: &str| {
        let mut world = World::default();
        world.set_with("a", "a.example.com", secret);
        world.build().get("a").unwrap().sources[0].0.clone()
    };
    let mut world = World::default();
    world.set_with("a", "a.example.com", "old");
    world.set_with("b", "b.example.com", "old");
    world.show_list();
    assert_eq!(world.changes.source_changed_at("a", &source("old")), None);
    world.now = 5;
    for name in ["a", "b"] {
        world.set_with(name, &format!("{name}.example.com"), "new");
        world.show(name);
    }
    for name in ["a", "b"] {
        let since = |secret| world.changes.source_changed_at(name, &source(secret));
        assert_eq!((since("new"), since("old")), (Some(at(5)), None), "{name}");
    }
    world.now = 700;
    world.delete("a");
    // It comes back by an event, or by a list.
    for is_listed in [false, true] {
        let mut world = world.clone();
        world.now = 1400;
        world.set_with("a", "a.example.com", "old");
        if is_listed {
            world.show_list();
        } else {
            world.show("a");
        }
        let since = world.changes.source_changed_at("a", &source("old"));
        assert_eq!(since, Some(at(1400)), "{is_listed}");
    }
}

/// What may happen to Registries.
#[derive(Clone, Copy, Debug)]
enum Step {
    Apply(usize, usize),
    Break(usize),
    Delete(usize),
    /// The kind goes with all Registries, and comes back bare.
    LoseKind(Loss),
    List,
    Confirm,
    /// Half an hour passes, and something else changes.
    Wait,
}

/// How it is known that the kind went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The watch shows its Registries go, and whoever asks is told that it is gone.
    Asked,
    /// The watch shows its Registries go, then a list that there are none.
    Watched,
    /// Only the list shows that.
    Listed,
}

const IMAGES: [&str; 4] = [
    "a.example.com",
    "a.example.com/x",
    "a.example.com/x/y",
    "b.example.com",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let names = 0..THREE.len();
    let step = prop_oneof![
        4 => (names.clone(), 0..IMAGES.len()).prop_map(|(name, image)| Step::Apply(name, image)),
        1 => names.clone().prop_map(Step::Break),
        3 => names.prop_map(Step::Delete),
        1 => prop_oneof![Just(Loss::Asked), Just(Loss::Watched), Just(Loss::Listed)].prop_map(Step::LoseKind),
        1 => Just(Step::List),
        3 => Just(Step::Confirm),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The whole history, and what follows from it: the rule once more, with nothing forgotten before its time.
#[derive(Debug, Default)]
struct Oracle {
    /// Of each Registry that is there: the last image that is valid, and whether it is that now.
    forms: BTreeMap<String, (&'static str, bool)>,
    count: u32,
    /// When an image was given no more by a Registry.
    ends: Vec<(u32, &'static str)>,
    orders: Vec<Ordered>,
    incarnation: u32,
    now: i64,
}

/// What becomes of a Registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Gone,
    Broken,
    Valid(&'static str),
}

#[derive(Debug)]
struct Ordered {
    count: u32,
    /// When it was confirmed; until then, when it was seen.
    at: i64,
    name: String,
    image: &'static str,
    state: SpecChangeState,
    incarnation: u32,
}

impl Oracle {
    fn change(&mut self, name: &str, to: Form) {
        self.count += 1;
        self.note(name, to);
    }

    /// One part of a change: a list shows several at once.
    fn note(&mut self, name: &str, to: Form) {
        let before = self.forms.remove(name);
        let now = match (to, before) {
            (Form::Gone, _) | (Form::Broken, None) => None,
            (Form::Broken, Some((image, _))) => Some((image, false)),
            (Form::Valid(image), _) => Some((image, true)),
        };
        self.forms.extend(now.map(|now| (name.to_owned(), now)));
        let Some((image, was_valid)) = before else {
            return;
        };
        if was_valid && now != before {
            self.ends.push((self.count, image));
        }
        if to != Form::Broken && now.is_none_or(|(now, _)| now != image) {
            self.orders.push(Ordered {
                count: self.count,
                at: self.now,
                name: name.to_owned(),
                image,
                state: Unconfirmed,
                incarnation: self.incarnation,
            });
        }
    }

    fn take(&mut self, step: Step) {
        let now = self.now;
        self.orders
            .retain(|one| one.state != Confirmed || now - one.at <= 3600);
        match step {
            Step::Apply(name, image) => self.change(THREE[name].0, Form::Valid(IMAGES[image])),
            Step::Break(name) => self.change(THREE[name].0, Form::Broken),
            Step::Delete(name) => self.change(THREE[name].0, Form::Gone),
            Step::LoseKind(loss) => {
                let (names, before) = (self.forms.keys().cloned(), self.orders.len());
                self.count += 1;
                for name in names.collect::<Vec<String>>() {
                    self.note(&name, Form::Gone);
                    // Events come one by one.
                    self.count += u32::from(loss != Loss::Listed);
                }
                if loss != Loss::Watched {
                    for one in &mut self.orders[before..] {
                        one.state = KindLost;
                    }
                }
                self.incarnation += 1;
            }
            Step::List | Step::Confirm | Step::Wait => {}
        }
        for one in &mut self.orders {
            if one.state == Unconfirmed {
                (one.state, one.at) = match step {
                    Step::Confirm if one.incarnation == self.incarnation => (Confirmed, now),
                    Step::LoseKind(Loss::Asked) | Step::Confirm => (KindLost, one.at),
                    _ => (Unconfirmed, one.at),
                };
            }
        }
    }

    fn find(&self, key: &str) -> Option<SpecChangeState> {
        let key = Pattern::parse(key).unwrap();
        let covers = |image: &str| Pattern::parse(image).unwrap().covers_pattern(&key);
        let ends = self.ends.iter().filter(|(_, image)| covers(image));
        let last = ends.map(|(count, _)| *count).max().unwrap_or(0);
        let orders = self.orders.iter().filter(|one| {
            let is_broken = self.forms.get(&one.name).is_some_and(|(_, valid)| !valid);
            one.count >= last && covers(one.image) && !is_broken
        });
        orders.map(|one| one.state).max()
    }
}

proptest! {
    #[test]
    fn finds_orders_as_the_whole_history_has_them(steps in steps()) {
        let (mut world, mut oracle) = (World::of(&[]), Oracle::default());
        for (number, step) in steps.iter().enumerate() {
            let passed = if matches!(step, Step::Wait) { 1800 } else { 1 };
            (world.now, oracle.now) = (world.now + passed, oracle.now + passed);
            match *step {
                Step::Apply(name, image) => world.apply(THREE[name].0, IMAGES[image]),
                Step::Break(name) => {
                    let name = THREE[name].0;
                    if world.there.contains_key(name) {
                        world.apply(name, "not an image");
                    }
                }
                Step::Delete(name) => world.delete(THREE[name].0),
                Step::LoseKind(loss) => {
                    if loss != Loss::Listed {
                        for (name, _) in world.there.clone() {
                            world.delete(&name);
                        }
                    }
                    if loss == Loss::Asked {
                        world.changes.lose_kind();
                    }
                    world.there.clear();
                    world.incarnation += 1;
                    world.show_list();
                }
                Step::List => world.show_list(),
                Step::Confirm => world.confirm(),
                Step::Wait => {}
            }
            // What is too old is forgotten with the next change.
            world.apply("other", &format!("other.example.com/{number}"));
            oracle.take(*step);
            for image in IMAGES {
                prop_assert_eq!(world.find(image), oracle.find(image), "{} after {:?}", image, step);
            }
        }
    }
}

/// A Registry that pushes has its hosts' own keys, of which it has no pattern.
#[test]
fn takes_an_order_for_the_hosts_own_keys_of_what_pushed() {
    let build = |generation: i64, spec: serde_json::Value| {
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "a", "uid": "u", "generation": generation}, "spec": spec,
        });
        Arc::new(Registries::build([serde_json::from_value::<Registry>(
            registry,
        )
        .unwrap()]))
    };
    let spec = |rest: serde_json::Value| {
        let mut spec = json!({
            "images": ["docker.io/x", "a.com/x"], "namespaceSelector": {"matchLabels": {"a": "b"}},
            "static": {"secretRef": {"name": "login"}},
        });
        for (field, value) in rest.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec
    };
    let push = || spec(json!({"access": "Push"}));
    let after = [
        spec(json!({"serviceAccountNames": ["ci"]})),
        spec(json!({"access": "Push", "images": ["b.com"]})),
        spec(json!({"access": "Push", "namespaceSelector": {"matchLabels": {"a": "c"}}})),
    ];
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    for changed in after {
        let mut changes = SpecChanges::default();
        changes.note_list(&build(1, push()), Some(Arc::from("crd")), at(0));
        changes.note_event("a", &build(2, changed.clone()), at(1));
        changes.confirm(changes.count(), Some("crd"), at(3));
        let find = |secret: &str, key: &str| changes.find(&labels, secret, key);
        for key in ["a.com", "docker.io", "https://index.docker.io/v1/"] {
            assert_eq!(find("pullpass-a", key), Some(Confirmed), "{key} {changed}");
            assert_eq!(find("pullpass", key), None);
        }
        assert_eq!(find("pullpass-a", "c.com"), None);
    }
    // Where it rests they stay.
    let rests = build(1, spec(json!({"access": "Push", "suspend": true})));
    let rests = rests.get("a").unwrap();
    assert!(rests.retains(&labels, "pullpass-a", "https://index.docker.io/v1/"));
    assert!(rests.retains(&labels, "pullpass-a", "a.com"));
    assert!(!rests.retains(&labels, "pullpass-a", "a.com/y"));
}

/// Of an export that is taken away, or whose Registry is, all keys go that it may have; those of the Registry's other Secrets stay.
#[test]
fn takes_an_order_for_what_an_export_gave() {
    let build = |generation: i64, exports: serde_json::Value, images: serde_json::Value| {
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "a", "uid": "u", "generation": generation},
            "spec": {
                "images": images, "namespaceSelector": {}, "exports": exports,
                "static": {"secretRef": {"name": "login"}},
            },
        });
        Arc::new(Registries::build([serde_json::from_value::<Registry>(
            registry,
        )
        .unwrap()]))
    };
    let images = || json!(["a.com/x"]);
    let both =
        || json!([{"name": "b", "format": "BasicAuth"}, {"name": "c", "format": "DockerConfig"}]);
    let labels = Labels::new();
    let change = |after: &Arc<Registries>| {
        let mut changes = SpecChanges::default();
        changes.note_list(&build(1, both(), images()), Some(Arc::from("crd")), at(0));
        changes.note_event("a", after, at(1));
        changes.confirm(changes.count(), Some("crd"), at(3));
        changes
    };
    let one = json!([{"name": "c", "format": "DockerConfig"}]);
    let changes = change(&build(2, one, images()));
    for key in ["a.com", "a.com/x"] {
        assert_eq!(
            changes.find(&labels, "pullpass-a.x-b", key),
            Some(Confirmed)
        );
        assert_eq!(changes.find(&labels, "pullpass-a.x-d", key), None);
    }
    let changes = change(&Arc::default());
    for secret in ["pullpass-a.x-b", "pullpass-a.x-c", "pullpass"] {
        assert_eq!(changes.find(&labels, secret, "a.com/x"), Some(Confirmed));
        let of_host = (secret != "pullpass").then_some(Confirmed);
        assert_eq!(changes.find(&labels, secret, "a.com"), of_host, "{secret}");
    }
    let changes = change(&build(2, both(), json!(["b.com/x"])));
    assert_eq!(
        changes.find(&labels, "pullpass-a.x-b", "a.com"),
        Some(Confirmed)
    );
}
