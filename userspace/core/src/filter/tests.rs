use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::event::{Comm, CopyOutcome, Event, Marks, Open, SessionInfo};
use crate::testing;

fn filter(text: &str) -> Filter {
    match text.parse() {
        Ok(filter) => filter,
        Err(error) => panic!("{error}"),
    }
}

/// `at` in characters, and what is said there.
fn error(text: &str) -> (usize, String) {
    let error = text.parse::<Filter>().expect_err(text);
    (error.at, error.what)
}

/// redis has wq1.2 of dsa1 open.
fn model() -> Model {
    let mut model = Model::default();
    model.update(&Event::Session(Box::new(SessionInfo { host: "node7".into(), ..SessionInfo::default() })));
    model.update(&Event::Open(Open {
        at_ns: 2_000,
        context: testing::context(1, 2, 33),
        tgid: 4242,
        tid: 4243,
        cgroup: Some(0xffff_ffff_0000_0001),
        cgroup_path: Some("/system.slice/redis-1.service".into()),
        comm: Comm::new("redis"),
        file: 0,
        files: 1,
        existing: false,
    }));
    model
}

fn fault() -> Fault {
    testing::fault(testing::context(1, 2, 33), 1_000_000)
}

fn holds(text: &str) -> bool {
    filter(text).matches(&fault(), &model())
}

#[test]
fn the_example_of_the_documentation() {
    let mut fault = fault();
    fault.logged[0] = 0x1a;
    let filter = filter("process == \"redis\" and status == CRA_XLAT and copy > 50ns");
    assert!(filter.matches(&fault, &model()));
    assert!(!filter.matches(&fault, &Model::default()), "nobody is known to have opened the file");
    fault.logged[0] = 0x01;
    assert!(!filter.matches(&fault, &model()));
}

#[test]
fn every_type_and_operator() {
    for yes in [
        "process == redis",
        "process != 'redis2'",
        "process ~ EDI",
        "process ~ \"r*s\"",
        "process !~ postgres",
        "process in (redis, postgres)",
        "process not in (postgres)",
        "pid == 4242 and pid != 1 and pid >= 4242 and pid <= 4242 and pid > 4241 and pid < 4243",
        "pid == 0x1092",
        "cgroup == 18446744069414584321",
        "cgroup_path ~ '*/redis-?.service'",
        "device == dsa1 and wq == wq1.2 and wq ~ '1.2' and pasid in (1, 33)",
        "host == node7",
        "opened_at == 1us",
        "operation == memmove and operation == 3 and operation_code == 3 and operation ~ move",
        "error == cra_xlat and error_code == 0x1a",
        "status == SUCCESS and status != CRA_XLAT and status in (CRA_XLAT, 1) and status_code == 1",
        "delivered_status == SUCCESS and outcome == delivered and outcome != failed",
        "write_fault and write_fault == true and write_fault != false",
        "not read_failed and end_missing == false",
        "copy_asked == 32B and copy_done <= 0.5KiB",
        "record_address == 0x7f001000 and page_address == 0x7f001000 and copy_address > 0x7f000fff",
        "interrupt == 10ns and queue == 20ns and prepare == 40ns and copy == 80ns and finish == 160ns",
        "service == 280ns and driver == 0.15us",
        "at == 1ms and done_at == 1ms and copy_start_at < 1ms and interrupt_at < 1ms and queued_at > 0ns",
        "cpu == 1 and queue_cpu == 1 and worker == 77",
        "counted_faults == 1 and counted_failures == 0",
        "batch is unknown and batch_index is unknown and batch_first_error is unknown",
        "copy_ns > 50ns and comm == redis",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        "process == Redis",
        "process ~ 'redis?'",
        "pid != 4242",
        "pid not in (1, 4242)",
        "operation !~ move",
        "status != SUCCESS",
        "copy < 80ns",
        "not write_fault",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    assert!(holds("pid == 4242 or pid == 1 and pid == 2"));
    assert!(!holds("(pid == 4242 or pid == 1) and pid == 2"));
    assert!(!holds("not pid == 4242 and pid == 1"));
    assert!(holds("not (pid == 4242 and pid == 1)"));
    assert!(holds("not not pid == 4242"));
}

#[test]
fn what_was_not_observed_compares_as_nothing() {
    let mut fault = fault();
    fault.times.copy_end_ns = None;
    fault.queue_cpu = None;
    fault.copy = CopyOutcome::Unobserved;
    fault.entry = Default::default();
    fault.logged = [0; 64];
    fault.marks = Marks { read_failed: true, ..Marks::default() };
    let model = Model::default();
    for field in ["copy", "queue_cpu", "copy_asked", "operation_code", "status_code", "batch", "pid"] {
        let fault = Fault { tgid: None, ..fault };
        let unit = if field == "copy" { "ns" } else { "" };
        for operator in ["==", "!=", "<", "<=", ">", ">="] {
            let text = format!("{field} {operator} 0{unit}");
            assert!(!filter(&text).matches(&fault, &model), "{text}");
            assert!(filter(&format!("not {text}")).matches(&fault, &model), "not {text}");
        }
        for list in ["in", "not in"] {
            assert!(!filter(&format!("{field} {list} (0{unit})")).matches(&fault, &model));
        }
        assert!(filter(&format!("{field} is unknown")).matches(&fault, &model), "{field}");
        assert!(!filter(&format!("{field} is known")).matches(&fault, &model), "{field}");
    }
    for text in [
        "process ~ a",
        "process !~ a",
        "operation != memmove",
        "status !~ a",
        "write_fault",
        "write_fault == false",
    ] {
        assert!(!filter(text).matches(&fault, &model), "{text}");
    }
    assert!(filter("outcome == unobserved").matches(&fault, &model));
}

#[test]
fn a_code_without_a_name_is_known_and_like_no_text() {
    let mut fault = fault();
    fault.logged[0] = 0x7e;
    for (text, fits) in [
        ("status is known", true),
        ("status == 0x7e", true),
        ("status != SUCCESS", true),
        ("status ~ \"*\"", false),
        ("status !~ FAULT", false),
    ] {
        assert_eq!(filter(text).matches(&fault, &model()), fits, "{text}");
    }
}

#[test]
fn a_status_has_no_write_bit_and_its_byte_has() {
    let mut fault = fault();
    fault.logged[0] = 0x83;
    assert!(filter("status == PAGE_FAULT_NOBOF and status_code == 0x83").matches(&fault, &model()));
}

#[test]
fn errors_point_at_the_place_and_say_what_was_meant() {
    for (text, at, what) in [
        ("", 0, "a field is missing here"),
        ("proces == x", 0, "there is no field proces: did you mean process?"),
        ("pid == 1 and stats == 1", 13, "there is no field stats: did you mean status?"),
        ("thing == 1", 0, "there is no field thing; docs/filter.md has all of them"),
        ("pid == 1 and", 12, "a field is missing here"),
        ("pid == 1 pid == 2", 9, "expected `and`, `or`, or the end"),
        ("pid == 1)", 8, "no parenthesis is open here"),
        ("(pid == 1", 0, "this parenthesis is not closed"),
        ("pid == 1 && pid == 2", 9, "&& is written and"),
        ("pid = 1", 4, "= is written =="),
        ("! write_fault", 0, "! is written not"),
        ("pid == redis", 7, "expected a number"),
        ("pid == 99999999999999999999", 7, "expected a number"),
        ("pid ~ 4", 4, "pid is a number: expected one of == != < <= > >=, `in` or `is`"),
        ("process > 4", 8, "process is text: expected one of == != ~ !~, `in` or `is`"),
        ("process == 7", 11, "text that begins with a digit is put in quotes: \"7\""),
        ("process ~ redis?", 10, "text with other signs than / - _ . is put in quotes, such as \"redis*\""),
        ("process == \"re", 11, "the text has no closing \""),
        ("process", 7, "expected one of == != ~ !~, `in` or `is`"),
        ("copy_end_at < copy_start_at", 14, "expected a time since boot, such as 3600s"),
        ("copy > 50", 7, "expected a time, such as 50us"),
        ("copy > 50 us", 7, "expected a time, such as 50us"),
        ("copy > 5days", 7, "expected a time, such as 50us"),
        ("status == CRA_XLTA", 10, "there is no status CRA_XLTA: did you mean CRA_XLAT?"),
        (
            "error == SUCCESS",
            9,
            "there is no error SUCCESS: expected an error: CRA_XLAT, DRAIN_EVL, BATCH_EVL_ERR, or a code",
        ),
        ("status == 256", 10, "expected a status, such as PAGE_FAULT_NOBOF or 0x03"),
        (
            "outcome == lost",
            11,
            "there is no outcome lost: expected an outcome: delivered, failed, not_copied, unobserved",
        ),
        ("status in CRA_XLAT", 10, "expected a list: ( and values with commas between"),
        ("status in ()", 11, "expected a status, such as PAGE_FAULT_NOBOF or 0x03"),
        ("pid in (1 2)", 10, "expected , or )"),
        ("pid not 1", 4, "expected `not in`: the `not` of a whole comparison stands before its field"),
        ("copy is slow", 8, "expected `known` or `unknown`"),
        (
            "write_fault in (true)",
            12,
            "write_fault is true or false: expected == or != or `is`, or nothing more",
        ),
    ] {
        let (found_at, found) = error(text);
        assert_eq!((found_at, found.as_str()), (at, what), "{text}");
    }
    let error = "wq == \"é\" and prozess == redis".parse::<Filter>().expect_err("no such field");
    assert_eq!(
        error.to_string(),
        "wq == \"é\" and prozess == redis\n              ^ there is no field prozess: did you mean process?"
    );
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}pid == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(MOST_DEPTH).parse::<Filter>().is_ok());
    assert_eq!(error(&nested(MOST_DEPTH + 1)).0, MOST_DEPTH);
    assert_eq!(error(&format!("{}write_fault", "not ".repeat(1000))).0, 4 * MOST_DEPTH);
    let long = format!("pid == 1{}", " or pid == 1".repeat(MOST_CHARS / 12));
    assert_eq!(error(&long), (0, format!("a filter has {MOST_CHARS} characters at most")));
}

#[test]
fn the_filter_is_written_as_short_as_it_can_be_read() {
    for (text, written) in [
        ("( ( pid==1 ) )", "pid == 1"),
        ("pid in (1)", "pid == 1"),
        ("comm == redis", "process == \"redis\""),
        ("copy > 60000ms", "copy > 1min"),
        ("copy > 0h", "copy > 0ns"),
        ("status == 0x13", "status == 0x13"),
        ("status == xfer_erange", "status == XFER_ERANGE"),
        ("status in (0x1a, 5)", "status in (CRA_XLAT, 0x05)"),
        ("write_fault != true", "write_fault == false"),
        ("process == \"a\\\"b\\\\\"", "process == \"a\\\"b\\\\\""),
        (
            "(pid==1 or pid==2) and not (pid==3 and pid==4)",
            "(pid == 1 or pid == 2) and not (pid == 3 and pid == 4)",
        ),
        ("pid==1 and pid==2 or pid==3", "pid == 1 and pid == 2 or pid == 3"),
        ("page_address == 4096", "page_address == 0x1000"),
    ] {
        assert_eq!(filter(text).to_string(), written);
        assert_eq!(filter(written), filter(text));
    }
}

#[test]
fn an_open_file_fits_or_not_or_its_faults_decide() {
    let model = model();
    let process = model.process(fault().context.key()).expect("it was opened");
    for (text, fits) in [
        ("process == redis", Some(true)),
        ("process == x", Some(false)),
        ("copy > 1s", None),
        ("process == redis and copy > 1s", None),
        ("process == x and copy > 1s", Some(false)),
        ("process == redis or copy > 1s", Some(true)),
        ("process == x or copy > 1s", None),
        ("not copy > 1s", None),
        ("pid == 4242 and host == node7 and wq == wq1.2", Some(true)),
    ] {
        assert_eq!(filter(text).matches_all_of(process, &model), fits, "{text}");
    }
}

fn completed(text: &str) -> Vec<String> {
    completions(text, text.len()).into_iter().map(|completion| completion.text).collect()
}

#[test]
fn completion_offers_what_can_stand_there() {
    assert_eq!(completed("proc"), ["process"]);
    assert_eq!(
        completed("pid == 1 and (cop"),
        [
            "copy_asked",
            "copy_done",
            "copy_address",
            "copy",
            "copy_start_at",
            "copy_end_at",
            "copy_unobserved"
        ]
    );
    assert_eq!(completed("status "), ["==", "!=", "~", "!~", "in", "is"]);
    assert_eq!(completed("copy "), ["==", "!=", "<", "<=", ">", ">=", "in", "is"]);
    assert_eq!(completed("status == CRA"), ["CRA_XLAT", "CRA_ALIGN"]);
    assert_eq!(completed("status in (success, page_fault_n"), ["PAGE_FAULT_NOBOF"]);
    assert_eq!(completed("status in (SUCCESS"), ["SUCCESS_PRED"]);
    assert_eq!(completed("outcome in (failed"), Vec::<String>::new());
    assert_eq!(completed("status in (SUCCESS "), [",", ")"]);
    assert_eq!(completed("error != "), ["CRA_XLAT", "DRAIN_EVL", "BATCH_EVL_ERR"]);
    assert_eq!(completed("outcome == n"), ["not_copied"]);
    assert_eq!(completed("operation == mem"), ["memmove", "memfill"]);
    assert_eq!(completed("write_fault == "), ["true", "false"]);
    assert_eq!(completed("copy is "), ["known", "unknown"]);
    assert_eq!(completed("pid == 1 "), ["and", "or"]);
    assert_eq!(completed("(pid == 1 "), ["and", "or", ")"]);
    assert_eq!(completed("nothing == 1 and proc"), Vec::<String>::new());
    assert_eq!(completed("process == \"re"), Vec::<String>::new());
    assert_eq!(completed("pid == "), Vec::<String>::new());
    let all = completed("");
    assert_eq!(all.len(), Field::ALL.len() + 2);
    let within = completions("stat == CRA_XLAT", 4);
    assert_eq!(within[0].replaces, 0..4);
    assert_eq!((within[0].text.as_str(), within[1].text.as_str()), ("status", "status_code"));
}

#[test]
fn the_catalogue_is_consistent() {
    for (at, field) in Field::ALL.iter().enumerate() {
        let entry = field.entry();
        assert_eq!(Field::named(entry.name), Some(*field));
        if entry.column != "marks" {
            assert_eq!(Field::named(entry.column), Some(*field), "{}", entry.column);
        }
        assert!(entry.meaning.ends_with('.'), "{}", entry.name);
        assert!(Field::ALL[..at].iter().all(|other| other.name() != entry.name), "{}", entry.name);
    }
    assert_eq!(Field::named("marks"), None);
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/filter.md");

#[test]
fn the_document_has_this_catalogue() {
    let mut table = String::from("| field | column | type | what |\n|---|---|---|---|\n");
    for Entry { name, column, kind, meaning } in Field::ALL.iter().map(|field| field.entry()) {
        table.push_str(&format!("| `{name}` | `{column}` | {} | {meaning} |\n", kind.name()));
    }
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let (head, rest) = text.split_once("<!-- fields -->\n").unwrap();
    let (found, tail) = rest.split_once("<!-- end -->").unwrap();
    if std::env::var_os("UPDATE_FIELDS").is_some() {
        std::fs::write(DOCUMENT, format!("{head}<!-- fields -->\n{table}<!-- end -->{tail}")).unwrap();
    } else {
        assert!(found == table, "run `UPDATE_FIELDS=1 cargo test -p dsascope-core` and commit {DOCUMENT}");
    }
}

#[test]
fn a_sieve_leaves_out_counts_and_tells() {
    let mut sieve = Sieve::new(filter("process == redis and copy >= 80ns"));
    let mut passed = Vec::new();
    let mut tell = |sieve: &mut Sieve, mut event: Event| {
        if sieve.takes(&mut event) {
            passed.push(event);
        }
    };
    let open = Open {
        at_ns: 2_000,
        context: fault().context,
        tgid: 4242,
        tid: 4242,
        cgroup: None,
        cgroup_path: None,
        comm: Comm::new("redis"),
        file: 0,
        files: 1,
        existing: false,
    };
    let other = testing::fault(testing::context(0, 0, 9), 5_000);
    let mut fast = fault();
    fast.times.copy_end_ns = NonZeroU64::new(1_000_000 - 200);
    tell(&mut sieve, Event::Session(Box::default()));
    tell(&mut sieve, Event::Open(open));
    for fault in [fault(), other, fast, fault()] {
        tell(&mut sieve, Event::Fault(fault));
    }
    tell(&mut sieve, Event::Tick { now_ns: 6_000 });
    assert_eq!(passed.len(), 5);
    let last = sieve.end().expect("two faults were left out since the session told");
    assert_eq!(sieve.end(), None);
    let mut model = Model::default();
    passed.iter().chain([&last]).for_each(|event| model.update(event));
    let filtering = model.filtering().expect("the session says so");
    assert_eq!(
        (filtering.expression.as_str(), filtering.left_out),
        ("process == \"redis\" and copy >= 80ns", 2)
    );
    assert_eq!(model.header().faults, 2);
}

#[test]
fn what_was_filtered_before_is_filtered_again() {
    let through = |expression: &str, events: Vec<Event>| {
        let mut sieve = Sieve::new(filter(expression));
        let mut events: Vec<_> =
            events.into_iter().filter_map(|mut event| sieve.takes(&mut event).then_some(event)).collect();
        events.extend(sieve.end());
        events
    };
    let faults = [1, 2, 3, 4].map(|worker| Event::Fault(Fault { worker, ..fault() }));
    let events = [Event::Session(Box::default())].into_iter().chain(faults).collect();
    let once = through("worker != 1", events);
    let twice = through("worker != 2 or pid == 7", once);
    let mut model = Model::default();
    twice.iter().for_each(|event| model.update(event));
    let filtering = model.filtering().expect("filtered");
    assert_eq!(filtering.expression, "(worker != 1) and (worker != 2 or pid == 7)");
    assert_eq!((filtering.left_out, model.header().faults), (2, 2));
    assert!(filtering.expression.parse::<Filter>().is_ok());
}

fn number() -> impl Strategy<Value = Check> {
    let sign = prop::sample::select(vec![
        Comparison::Above,
        Comparison::AtLeast,
        Comparison::Below,
        Comparison::AtMost,
    ]);
    prop_oneof![
        (sign, any::<u64>()).prop_map(|(sign, bound)| Check::Ordered(sign, bound)),
        (any::<bool>(), prop::collection::vec(any::<u64>(), 1..4))
            .prop_map(|(negated, any)| Check::Numbers { negated, any: any.into() }),
    ]
}

fn check(field: Field) -> BoxedStrategy<Check> {
    let known = any::<bool>().prop_map(Check::Known);
    let like = (any::<bool>(), any::<String>())
        .prop_map(|(negated, text)| Check::Like { negated, pattern: Pattern::new(&text) });
    match field.kind() {
        Kind::Bool => prop_oneof![known, any::<bool>().prop_map(Check::Bool)].boxed(),
        Kind::Text => {
            let texts = (any::<bool>(), prop::collection::vec(any::<String>().prop_map(Box::from), 1..4))
                .prop_map(|(negated, any)| Check::Texts { negated, any: any.into() });
            prop_oneof![known, like, texts].boxed()
        }
        Kind::Constant(vocabulary) => {
            let names: Vec<_> =
                vocabulary.names().into_iter().filter_map(|name| vocabulary.constant(name)).collect();
            let codes: Vec<_> = (0..=255).filter_map(|code| vocabulary.code(code)).collect();
            let all: Vec<_> = names.into_iter().chain(codes).collect();
            let constants = (any::<bool>(), prop::collection::vec(prop::sample::select(all), 1..4))
                .prop_map(|(negated, any)| Check::Constants { negated, any: any.into() });
            prop_oneof![known, like, constants].boxed()
        }
        _ => prop_oneof![known, number()].boxed(),
    }
}

fn node() -> impl Strategy<Value = Node> {
    let test = prop::sample::select(Field::ALL.to_vec())
        .prop_flat_map(|field| check(field).prop_map(move |check| Node::Test(field, check)));
    test.prop_recursive(6, 40, 4, |node| {
        prop_oneof![
            prop::collection::vec(node.clone(), 2..4).prop_map(|nodes| Node::All(nodes.into())),
            prop::collection::vec(node.clone(), 2..4).prop_map(|nodes| Node::Any(nodes.into())),
            node.prop_map(|node| Node::Not(node.into())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(root in node()) {
        let filter = Filter { root };
        let text = filter.to_string();
        prop_assume!(text.chars().count() <= MOST_CHARS);
        prop_assert_eq!(text.parse::<Filter>(), Ok(filter), "{}", text);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in "\\PC*|([a-z_]{1,9}|[<>=!~(),\"'\\\\ ]| and | not | in | is |[0-9]{1,4}(us|x|B)?){0,30}", cursor in 0..100usize) {
        if let Err(error) = text.parse::<Filter>() {
            prop_assert!(error.at <= text.chars().count());
            let _ = error.to_string();
        }
        for completion in completions(&text, cursor) {
            prop_assert!(text.get(completion.replaces).is_some());
        }
    }

    #[test]
    fn every_completion_can_stand_there(root in node(), cut in any::<prop::sample::Index>()) {
        let text = Filter { root }.to_string();
        let cursor = cut.index(text.len() + 1);
        for completion in completions(&text, cursor).into_iter().take(8) {
            let begun = format!("{}{} ", &text[..completion.replaces.start], completion.text);
            // The text goes on in some way: nothing is wrong before its end.
            if let Err((error, expected)) = parse::parse(&begun) {
                prop_assert!(expected != parse::Expected::Nothing, "{}", error);
            }
        }
    }

    #[test]
    fn a_filter_and_its_negation_part_all_faults(root in node(), status: u8, copy in 0..200u64, seen: bool) {
        let mut fault = fault();
        fault.logged[0] = status;
        fault.times.copy_end_ns = NonZeroU64::new(if seen { 999_760 + copy } else { 0 });
        let model = model();
        let filter = Filter { root };
        let negated = Filter { root: Node::Not(Box::new(filter.root.clone())) };
        prop_assert_ne!(filter.matches(&fault, &model), negated.matches(&fault, &model));
        let process = model.process(fault.context.key()).expect("open");
        if let Some(all) = filter.matches_all_of(process, &model) {
            prop_assert_eq!(all, filter.matches(&fault, &model));
        }
    }
}
