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
        (json!({"type": "string", "format": "x-singer.decimal"}), decimal(38, 18), false),
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
        (json!({"type": ["integer", "string"]}), ColumnType::Json, false),
        (json!({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}), ColumnType::Json, true),
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
        assert_eq!(of(&schema), Property { kind, nullable }, "{schema}");
    }
}

#[test]
fn a_schema_that_nests_for_ever_is_cut_off() {
    let deep = (0..60).fold(json!({"type": "integer"}), |inner, _| json!({"anyOf": [inner]}));
    assert_eq!(of(&deep).kind, ColumnType::Json);
}
