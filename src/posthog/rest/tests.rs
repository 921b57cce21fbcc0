//! Lists from a server that plays a script.

use super::*;
use crate::posthog::http::client::Options;
use crate::posthog::http::client::tests::{Play, error_answer, json_answer, options, serve};
use serde_json::{Value, json};

/// Reads a list from a server that plays these answers; gives the items' texts and the request lines.
fn read(script: Vec<Play>) -> (Result<Vec<String>, Fault>, Vec<String>) {
    let server = serve(script);
    let client = Client::new(options(&server.base)).unwrap();
    let query = [("type".to_owned(), "event".to_owned())];
    let mut list = ListReader::new(&client, "api/projects/7/things/".to_owned(), &query, RateClass::Lists, 2);
    let (mut items, mut known) = (Vec::new(), HashSet::new());
    let result = loop {
        let page = list.next_page(&mut |item| {
            items.push(String::from_utf8(item.to_vec()).unwrap());
            let item: Value = serde_json::from_slice(item).unwrap();
            Ok(known.insert(item.get("id").unwrap_or(&item).to_string()))
        });
        match page {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(items),
            Err(fault) => break Err(fault),
        }
    };
    let seen = server.seen.lock().unwrap();
    let lines = seen.iter().map(|(head, _)| head.split(' ').nth(1).unwrap().to_owned()).collect();
    (result, lines)
}

fn page(items: serde_json::Value, next: Option<&str>) -> Play {
    json_answer(200, "", &json!({"count": 9, "next": next, "previous": null, "results": items}).to_string())
}

#[test]
fn next_is_asked_of_our_own_host_and_a_short_page_is_not_the_end() {
    let next = "http://internal.example:8000/other/?offset=2&limit=2&type=event&token=phc_x&personal_api_key=k";
    let (items, lines) = read(vec![
        page(json!([{"id": 1.50}]), Some(next)),
        page(json!([]), Some("?cursor=a%20b")),
        page(json!([2]), None),
    ]);
    assert_eq!(items.unwrap(), [r#"{"id":1.5}"#, "2"]);
    let path = "/api/projects/7/things/";
    let expected = [
        format!("{path}?limit=2&type=event"),
        format!("{path}?limit=2&offset=2&type=event"),
        format!("{path}?cursor=a+b"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn every_envelope_is_read() {
    assert_eq!(read(vec![json_answer(200, "", " [1, 2]")]).0.unwrap(), ["1", "2"]);
    let more = |items: serde_json::Value, more: bool| {
        json_answer(200, "", &json!({"results": items, "has_next": more}).to_string())
    };
    // A page may hold less than was asked for: what comes next begins behind what came.
    let (items, lines) = read(vec![more(json!([1]), true), more(json!([]), true), more(json!([3]), false)]);
    assert_eq!(items.unwrap().len(), 2);
    assert!(lines[1].contains("offset=1") && lines[2].contains("offset=3"), "{lines:?}");
    assert_eq!(read(vec![page(json!([]), Some(""))]).0.unwrap().len(), 0);
}

#[test]
fn circles_and_endless_lists_are_refused() {
    let circle = || page(json!([1]), Some("/x?type=event&limit=2"));
    let (result, lines) = read(vec![circle(), circle()]);
    assert!(Error::from(result.unwrap_err()).to_string().contains("circle"));
    assert_eq!(lines.len(), 1);
    let endless = (0..60).map(|at| page(json!([]), Some(&format!("?offset={at}")))).collect();
    assert!(Error::from(read(endless).0.unwrap_err()).to_string().contains("without new items"));
    // A server that does not know `offset` gives the same page for ever.
    let same = |at: u32| json!([1, {"id": 2, "seen": at}]);
    let deaf: Vec<Play> = (0..60).map(|at| page(same(at), Some(&format!("?offset={at}")))).collect();
    let (result, lines) = read(deaf);
    assert!(Error::from(result.unwrap_err()).to_string().contains("without new items"));
    assert_eq!(lines.len(), 22);
}

/// How a list of 100 items a page is asked for, by a client that takes 1 MB.
fn limits(script: Vec<Play>) -> (Result<u64, Fault>, Vec<String>) {
    let server = serve(script);
    let client = Client::new(options(&server.base)).unwrap();
    let mut list = ListReader::new(&client, "api/projects/7/things/".to_owned(), &[], RateClass::Lists, 100);
    let mut items = 0;
    let result = loop {
        match list.next_page(&mut |_| Ok(true)) {
            Ok(Some(came)) => items += came,
            Ok(None) => break Ok(items),
            Err(fault) => break Err(fault),
        }
    };
    let seen = server.seen.lock().unwrap();
    (result, seen.iter().map(|(head, _)| head.split([' ', '?']).nth(2).unwrap().to_owned()).collect())
}

fn large() -> Play {
    page(json!(["x".repeat(1_000_001)]), None)
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    let (items, asked) = limits(vec![
        large(),
        page(json!([1]), Some("?limit=10&offset=10")),
        large(),
        page(json!([2]), Some("?limit=1&offset=11")),
        page(json!([3]), Some("?limit=1&offset=20")),
        // Ten times as much would be too large again.
        page(json!(["x".repeat(200_000)]), Some("?limit=10&offset=100")),
        page(json!([4]), Some("?limit=10&offset=110")),
        page(json!([5]), Some("?cursor=x&limit=100")),
        page(json!([6]), None),
    ]);
    assert_eq!(items.unwrap(), 7);
    let expected = [
        "limit=100",
        "limit=10",
        "limit=10&offset=10",
        "limit=1&offset=10",
        "limit=1&offset=11",
        "limit=10&offset=20",
        "limit=10&offset=100",
        "limit=100&offset=110",
        "cursor=x&limit=100",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn an_item_that_is_too_large_and_a_page_that_cannot_be_divided_are_named() {
    let (result, asked) = limits(vec![large(), large(), large()]);
    let text = Error::from(result.unwrap_err()).to_string();
    for part in ["api/projects/7/things/", "one item, number 1,", "larger than max_response_mb); raise it"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(asked, ["limit=100", "limit=10", "limit=1"]);
    let (result, asked) = limits(vec![page(json!([1]), Some("?cursor=x&limit=100")), large()]);
    let text = Error::from(result.unwrap_err()).to_string();
    assert!(text.contains("cannot be asked for in parts") && asked.len() == 2, "{text}");
}

fn failing() -> Play {
    error_answer(500, "", "error", "A server error occurred.")
}

/// One object that cannot be written makes PostHog fail for each page that has it.
#[test]
fn a_page_that_makes_the_server_fail_is_asked_for_in_smaller_ones() {
    let mut script = vec![failing(), failing(), page(json!([1]), Some("?limit=10&offset=10")), failing(), failing()];
    script.extend([page(json!([2]), Some("?limit=1&offset=11")), failing(), page(json!([3]), None)]);
    let (items, asked) = limits(script);
    assert_eq!(items.unwrap(), 3);
    let expected = [
        "limit=100",
        "limit=100",
        "limit=10",
        "limit=10&offset=10",
        "limit=10&offset=10",
        "limit=1&offset=10",
        "limit=1&offset=11",
        "limit=1&offset=11",
    ];
    assert_eq!(asked, expected);
    let (result, asked) = limits((0..9).map(|_| failing()).collect());
    let Err(Fault::Fatal(failure)) = result else { panic!("an item that fails for ever") };
    let text = failure.error.to_string();
    for part in ["api/projects/7/things/", "one item, number 1: GET ", "failed 4 times", "HTTP 500"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!((failure.cause, asked.len()), (Cause::Server, 8));
}

#[test]
fn the_address_of_a_next_page_is_not_quoted_at_any_length() {
    let long = || page(json!([1]), Some(&format!("?offset={}", "9".repeat(3_000_000))));
    let server = serve((0..9).map(|_| long()).collect());
    let client = Client::new(Options { max_list_bytes: 10_000_000, ..options(&server.base) }).unwrap();
    let mut list = ListReader::new(&client, "api/projects/7/things/".to_owned(), &[], RateClass::Lists, 100);
    let text = Error::from(list.next_page(&mut |_| Ok(true)).unwrap_err()).to_string();
    assert!(text.contains("the address of the next page has 3000008 bytes") && text.len() < 500, "{text}");
}

/// The address of a next page may hold any number.
#[test]
fn an_offset_at_the_end_of_all_numbers_is_no_fault_of_ours() {
    let far = || page(json!([1]), Some(&format!("?limit=100&offset={}", u64::MAX)));
    let text = |script: Vec<Play>| Error::from(limits(script).0.unwrap_err()).to_string();
    assert!(text(vec![far(), large(), large(), large()]).contains("one item, number 18446744073709551615,"));
    let failing = (0..8).map(|_| failing());
    assert!(text([far()].into_iter().chain(failing).collect()).contains("one item, number 18446744073709551615: GET "));
    let more = || json_answer(200, "", &json!({"results": [2], "has_next": true}).to_string());
    assert!(text(vec![far(), more(), more()]).contains("run in a circle"));
}

/// Of a body larger than what is checked as a whole, items are passed on while it arrives; what came of one that breaks off
/// comes again.
#[test]
fn a_large_page_is_read_while_it_arrives() {
    let item = |id: u32| json!({"id": id, "text": "x".repeat(1_000_000)});
    let items: Vec<Value> = (0..8).map(item).collect();
    let body = json!({"results": items, "next": null}).to_string();
    let Play::Raw(mut half) = json_answer(200, "", &body) else { panic!("an answer") };
    half.truncate(6_500_000);
    let server = serve(vec![Play::Cut(half), json_answer(200, "", &body)]);
    let client = Client::new(Options { max_list_bytes: 10_000_000, ..options(&server.base) }).unwrap();
    let mut list = ListReader::new(&client, "api/projects/7/things/".to_owned(), &[], RateClass::Lists, 100);
    let mut came = Vec::new();
    let mut on_item = |item: &[u8]| {
        let item: Value = serde_json::from_slice(item).unwrap();
        came.push(item["id"].as_u64().unwrap());
        Ok(true)
    };
    assert_eq!(list.next_page(&mut on_item).unwrap(), Some(8));
    assert_eq!(list.next_page(&mut on_item).unwrap(), None);
    assert_eq!(came, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7]);
}

/// Of a small one nothing is passed on before all of it is known to be a list.
#[test]
fn a_small_page_is_checked_before_its_first_item() {
    let server = serve((0..9).map(|_| json_answer(200, "", r#"{"results": [1, 2], "next": nul}"#)).collect());
    let client = Client::new(options(&server.base)).unwrap();
    let mut list = ListReader::new(&client, "api/projects/7/things/".to_owned(), &[], RateClass::Lists, 100);
    let fault = list.next_page(&mut |_| panic!("an item")).unwrap_err();
    assert!(matches!(fault, Fault::Fatal(failure) if failure.cause == Cause::Untrusted));
}

#[test]
fn an_item_that_cannot_be_taken_ends_the_list() {
    let server = serve(vec![page(json!([1]), None)]);
    let client = Client::new(options(&server.base)).unwrap();
    let mut list = ListReader::new(&client, "api/projects/7/things/".to_owned(), &[], RateClass::Lists, 100);
    let fault = list.next_page(&mut |_| Err(Error::new(Kind::Pipe, "closed"))).unwrap_err();
    assert_eq!(Error::from(fault).kind(), Kind::Pipe);
}

#[test]
fn what_is_no_list_is_asked_for_again_and_then_refused() {
    let nonsense = || json_answer(200, "", r#"{"detail": "x"}"#);
    let (items, lines) = read(vec![nonsense(), page(json!([3]), None)]);
    assert_eq!((items.unwrap().len(), lines.len()), (1, 2));
    let result = read((0..9).map(|_| nonsense()).collect()).0;
    assert!(matches!(result.unwrap_err(), Fault::Fatal(failure) if failure.cause == Cause::Untrusted));
    let denied = error_answer(403, "", "permission_denied", "API key missing required scope 'thing:read'");
    let result = read(vec![denied]).0;
    assert!(matches!(result.unwrap_err(), Fault::Fatal(failure) if failure.cause == Cause::Scope("thing:read".into())));
}
