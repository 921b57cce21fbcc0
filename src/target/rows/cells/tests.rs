use super::*;

fn read(cells: &mut Cells, row: usize, text: &str) -> Result<bool, Refusal> {
    cells.read(&mut Scanner::new(text.as_bytes()), row, &mut Oddities::default())
}

#[test]
fn rows_without_a_value_cost_nothing_and_are_known() {
    let mut cells = Cells::new(ColumnType::Int64);
    for (row, text) in ["1", "2", "null", "3"].iter().enumerate() {
        read(&mut cells, row, text).unwrap();
    }
    read(&mut cells, 200, "4").unwrap();
    let Column { values, validity } = cells.into_column();
    assert_eq!(values.len(), 4);
    let rows: Vec<usize> = (0..300).filter(|row| validity.is_set(*row, values.len())).collect();
    assert_eq!(rows, [0, 1, 3, 200]);
}

#[test]
fn the_first_word_boundary_is_no_exception() {
    for full in [63, 64, 65, 128] {
        let mut cells = Cells::new(ColumnType::Bool);
        for row in 0..full {
            read(&mut cells, row, "true").unwrap();
        }
        read(&mut cells, full + 1, "false").unwrap();
        let Column { values, validity } = cells.into_column();
        let rows = (0..full + 2).filter(|row| validity.is_set(*row, values.len())).count();
        assert_eq!(rows, full + 1);
        assert!(!validity.is_set(full, values.len()));
    }
}

#[test]
fn a_row_can_be_taken_back() {
    let mut cells = Cells::new(ColumnType::Text);
    for (row, text) in ["\"a\"", "\"bc\"", "\"def\""].iter().enumerate() {
        read(&mut cells, row, text).unwrap();
    }
    cells.undo(2);
    cells.undo(2);
    read(&mut cells, 3, "\"x\"").unwrap();
    cells.undo(3);
    let Column { values, validity } = cells.into_column();
    assert!(matches!(&values, Values::Bytes { open, .. } if open.data == b"abc" && open.ends == [1, 3]));
    assert_eq!((0..5).filter(|row| validity.is_set(*row, 2)).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn another_type_is_a_misfit_and_broken_json_is_not() {
    for kind in [ColumnType::Int64, ColumnType::Text, ColumnType::Float64, ColumnType::Bool, ColumnType::Timestamp] {
        assert!(matches!(read(&mut Cells::new(kind), 0, "[1, 2]"), Err(Refusal::Misfit(_))), "{kind}");
        assert!(matches!(read(&mut Cells::new(kind), 0, "[1, 2"), Err(Refusal::Syntax(_))), "{kind}");
    }
}

#[test]
fn json_keeps_its_text() {
    let mut cells = Cells { keep_surrogates: true, ..Cells::new(ColumnType::Json) };
    read(&mut cells, 0, r#"{"a" : 1.0, "b": 123456789012345678901234567890, "c": "\ud800"}"#).unwrap();
    let Column { values, .. } = cells.into_column();
    let Values::Bytes { open, .. } = values else { panic!("not bytes") };
    assert_eq!(open.data.first_chunk(), Some(&63u32.to_le_bytes()));
    assert_eq!(&open.data[4..], br#"{"a" : 1.0, "b": 123456789012345678901234567890, "c": "\ud800"}"#);
}

#[test]
fn a_column_is_cut_at_any_row_and_both_parts_are_whole() {
    let texts = ["1", "null", "2", "3", "null", "null", "4"];
    for kind in [ColumnType::Int64, ColumnType::Text, ColumnType::Json] {
        for dense in [true, false] {
            for at in 0..=200 {
                let mut cells = Cells { takes_all: true, ..Cells::new(kind) };
                let text = |row: usize| if dense { texts[0] } else { texts[row % texts.len()] };
                for row in 0..200 {
                    read(&mut cells, row, text(row)).unwrap();
                }
                let behind = cells.split_off(at);
                for (mut part, rows) in [(cells, 0..at), (behind, at..200)] {
                    let count = rows.clone().filter(|row| text(*row) != "null").count();
                    // What follows lands in its own row.
                    read(&mut part, rows.len(), "7").unwrap();
                    let Column { values, validity } = part.into_column();
                    assert_eq!(values.len(), count + 1, "{kind} {at}");
                    let set: Vec<bool> = (0..=rows.len()).map(|row| validity.is_set(row, values.len())).collect();
                    let wanted = rows.map(|row| text(row) != "null").chain([true]);
                    assert_eq!(set, wanted.collect::<Vec<_>>(), "{kind} {at}");
                }
            }
        }
    }
}

#[test]
fn pieces_are_cut_inside_and_between() {
    let long = format!("\"{}\"", "x".repeat(300_000));
    for at in 0..=12 {
        let mut cells = Cells::new(ColumnType::Text);
        (0..12).for_each(|row| assert!(read(&mut cells, row, &long).unwrap()));
        let behind = cells.split_off(at);
        for (part, rows) in [(cells, at), (behind, 12 - at)] {
            let Column { values, .. } = part.into_column();
            let Values::Bytes { full, open } = values else { panic!("not bytes") };
            let pieces = full.iter().chain([&open]);
            let lengths = pieces.map(|piece| (piece.ends.len(), piece.data.len(), piece.ends.last().copied()));
            let mut values = 0;
            for (count, bytes, last) in lengths {
                assert_eq!((count * 300_000, last.unwrap_or_default() as usize), (bytes, bytes));
                values += count;
            }
            assert_eq!(values, rows);
        }
    }
}
