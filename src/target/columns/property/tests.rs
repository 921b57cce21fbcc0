use super::*;
use serde_json::json;

fn of(schema: &serde_json::Value) -> Property {
    property(&mut Scanner::new(schema.to_string().as_bytes())).unwrap()
}

#[test]
fn the_type_table() {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    for (schema, kind, nullable) in [
        (json!({"type": "integer"}), ColumnType::Int64, false),
        (json!({"type": ["null", "integer"]}), ColumnType::Int64, true),
        (json!({"type": "integer", "maximum": 18_446_744_073_709_551_615u64}), decimal(38, 0), false),
        (json!({"type": ["number", "null"]}), ColumnType::Float64, true),
        (json!({"type": ["integer", "number"]}), ColumnType::Float64, false),
        (json!({"type": "number", "multipleOf": 0.01}), decimal(38, 2), false),
        (json!({"type": "string", "format": "x-singer.decimal"}), ColumnType::Text, false),
        (json!({"type": "string", "format": "x-singer.decimal", "precision": 38}), decimal(38, 0), false),
        (json!({"type": "string", "format": "x-singer.decimal", "precision": 50, "scale": 2}), ColumnType::Text, false),
        (
            json!({"type": ["number", "string"], "format": "singer.decimal", "precision": 9, "scale": 2}),
            decimal(9, 2),
            false,
        ),
        (json!({"type": ["null", "number"], "multipleOf": 1e-38, "maximum": 1e62}), ColumnType::Text, true),
        (json!({"type": "number", "multipleOf": 0.01, "maximum": 1e62}), ColumnType::Text, false),
        (json!({"type": "string", "format": "x-singer.decimal", "precision": 10, "scale": 4}), decimal(10, 4), false),
        (json!({"type": ["string", "null"], "format": "date-time"}), ColumnType::Timestamp, true),
        (json!({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}), ColumnType::Timestamp, true),
        (json!({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string"}]}), ColumnType::Text, false),
        (json!({"type": "string", "format": "date"}), ColumnType::Date, false),
        (json!({"type": "string", "format": "time"}), ColumnType::Time, false),
        (json!({"type": "string", "format": "uuid"}), ColumnType::Text, false),
        (json!({"type": "boolean"}), ColumnType::Bool, false),
        (json!({"type": ["null", "object"], "additionalProperties": true}), ColumnType::Json, true),
        (json!({"type": "array"}), ColumnType::Json, false),
        (json!({"type": ["integer", "string"]}), ColumnType::Text, false),
        (json!({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}), ColumnType::Text, true),
        (json!({"type": ["integer", "string", "array"]}), ColumnType::Json, false),
        (json!({"type": "string", "nullable": true}), ColumnType::Text, true),
        (json!({}), ColumnType::Json, true),
        (json!({"$ref": "#/definitions/x"}), ColumnType::Json, true),
        (json!({"type": "null"}), ColumnType::Json, true),
        (json!(true), ColumnType::Json, true),
        (json!({"type": "integer", "enum": [1, {"type": "string"}], "title": 1}), ColumnType::Int64, false),
        (json!({"multipleOf": "0.01", "type": ["number", 5]}), ColumnType::Float64, false),
        (
            json!({"type": [], "anyOf": [{"type": "null"}, {"multipleOf": 1e-3, "type": "number"}]}),
            decimal(38, 3),
            true,
        ),
    ] {
        let property = of(&schema);
        assert_eq!((property.kind, property.nullable), (kind, nullable), "{schema}");
    }
}

#[test]
fn several_numbers_are_the_widest_in_any_order() {
    let decimal = |scale| ColumnType::Decimal { precision: 38, scale };
    let (number, integer) = (json!({"type": "number"}), json!({"type": "integer"}));
    let scaled = |multiple: f64| json!({"type": "number", "multipleOf": multiple});
    let wide = json!({"type": ["null", "integer"], "maximum": 1e30});
    for (one, other, kind) in [
        (&number, &scaled(0.01), ColumnType::Float64),
        (&number, &integer, ColumnType::Float64),
        (&integer, &scaled(0.01), decimal(2)),
        (&scaled(0.001), &scaled(0.01), decimal(3)),
        (&integer, &wide, decimal(0)),
        (&scaled(0.01), &scaled(1e-30), ColumnType::Text),
        (&number, &scaled(1e-30), ColumnType::Float64),
    ] {
        for list in [json!([one, other]), json!([other, one]), json!([{"type": "null"}, other, one])] {
            assert_eq!(of(&json!({"anyOf": list})).kind, kind, "{list}");
            assert_eq!(of(&json!({"oneOf": list, "title": "x"})).kind, kind, "{list}");
        }
    }
    let given = |precision, scale| json!({"type": "string", "format": "x-singer.decimal", "precision": precision, "scale": scale});
    let both = of(&json!({"anyOf": [given(10, 2), given(9, 4)]}));
    assert_eq!(both.kind, ColumnType::Decimal { precision: 12, scale: 4 });
}

#[test]
fn a_type_counts_for_what_stands_beside_it() {
    let text = ColumnType::Text;
    for (schema, kind) in [
        (json!({"oneOf": [{"const": "a"}, {"const": "b"}], "type": "string"}), text),
        (json!({"type": ["string", "null"], "anyOf": [{"format": "date-time"}]}), ColumnType::Timestamp),
        (json!({"anyOf": [{"format": "date-time"}, {"format": "date"}], "type": "string"}), text),
        (json!({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}), ColumnType::Json),
        (json!({"allOf": [{"type": ["string", "integer"]}, {"type": "string"}]}), text),
        (json!({"allOf": [{"type": "string"}, {"format": "date"}]}), ColumnType::Date),
        (json!({"allOf": [{"$ref": "#/x"}, {"type": "number"}]}), ColumnType::Float64),
        (json!({"type": "number", "allOf": [{"type": "integer"}]}), ColumnType::Int64),
        (json!({"enum": ["a", "b", null]}), text),
        (json!({"const": "a"}), text),
        (json!({"enum": [1, 2.0]}), ColumnType::Int64),
        (json!({"enum": [1, 2.5]}), ColumnType::Float64),
        (json!({"enum": [true]}), ColumnType::Bool),
        (json!({"enum": [1, "a"]}), text),
        (json!({"enum": [[1]]}), ColumnType::Json),
        (json!({"type": ["string", "integer"], "enum": ["a", "b"]}), text),
        (json!({"type": "string", "anyOf": [{"type": "integer"}]}), text),
        (json!({"anyOf": [{}, {"type": "string"}]}), ColumnType::Json),
    ] {
        assert_eq!(of(&schema).kind, kind, "{schema}");
    }
    assert!(of(&json!({"enum": ["a", null]})).nullable);
    assert!(of(&json!({"type": ["string", "null"], "enum": ["a"]})).nullable);
    assert_eq!(of(&json!({"type": ["string", "null"], "enum": ["a"]})).takes, Takes::Strings);
    assert_eq!(of(&json!({"enum": [1, "a"]})).takes, Takes::Scalars);
    let many: Vec<_> = (0..100).map(|scale| json!({"type": "string", "precision": scale})).collect();
    assert_eq!(of(&json!({"anyOf": many})).kind, ColumnType::Json);
}

#[test]
fn a_schema_that_nests_for_ever_is_cut_off() {
    let deep = (0..60).fold(json!({"type": "integer"}), |inner, _| json!({"anyOf": [inner]}));
    assert_eq!(of(&deep).kind, ColumnType::Json);
}
