//! The one JSON form of every document whose digest matters: keys sorted by their UTF-8 bytes, no white space, only
//! the escapes that JSON demands, integers as decimal digits. Floating-point numbers are refused, because their
//! text is not a function of their value alone.

use serde::Serialize;
use serde_json::Value;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    #[error("a value cannot be written as JSON")]
    Value(#[source] serde_json::Error),
    #[error("the number {0} is not an integer")]
    Float(serde_json::Number),
}

/// The canonical bytes of `value`.
pub fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(CanonicalError::Value)?;
    let mut bytes = Vec::with_capacity(4096);
    write(&value, &mut bytes)?;
    Ok(bytes)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Number(number) if number.is_f64() => return Err(CanonicalError::Float(number.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            out.extend_from_slice(value.to_string().as_bytes())
        }
        Value::String(text) => write_text(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (at, (key, item)) in entries.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(key, out)?;
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    serde_json::to_writer(out, text).map_err(CanonicalError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_form() {
        let value =
            json!({"b": [1, -2, u64::MAX, null, true], "a": {"é": "<&>\"\\\n\u{1}", "Z": {}}, "": []});
        let expected = "{\"\":[],\"a\":{\"Z\":{},\"é\":\"<&>\\\"\\\\\\n\\u0001\"},\"b\":[1,-2,18446744073709551615,null,true]}";
        let bytes = to_bytes(&value).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        let again: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(to_bytes(&again).unwrap(), bytes);
    }

    #[test]
    fn floats_have_no_form() {
        assert!(matches!(to_bytes(&json!({"a": [1.5]})), Err(CanonicalError::Float(_))));
        assert!(matches!(to_bytes(&1.0), Err(CanonicalError::Float(_))));
    }
}
