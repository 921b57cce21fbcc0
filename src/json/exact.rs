//! The text of a JSON number to the value of a column: exactly, or `None`. The grammar was checked by the scanner.
//! [`without_noise`] is the one exception, and says so.

/// A whole number that fits 64 bits. `1.0` and `1e2` are whole numbers too.
pub fn int64(text: &[u8]) -> Option<i64> {
    let (negative, body) = sign(text);
    if body.len() <= 18 {
        // 18 digits cannot overflow, and nearly every integer is that short.
        let plain = body.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')));
        if let Some(n) = plain {
            return Some(if negative { -n } else { n });
        }
    }
    i64::try_from(decimal(text, 38, 0)?).ok()
}

/// A number times 10^`scale`, if it has at most `precision` digits then and loses none.
pub fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, body) = sign(text);
    let (mantissa, exponent) = split_exponent(body)?;
    let mut digits: i128 = 0;
    // How many digits of `digits` lie behind the decimal point.
    let mut behind = i64::from(scale);
    let mut point = false;
    let mut zeros = 0u32;
    for &byte in mantissa {
        if byte == b'.' {
            point = true;
            continue;
        }
        behind -= i64::from(point);
        if byte == b'0' {
            // Kept back: zeros in front and at the end may be as many as they like.
            zeros += u32::from(digits != 0);
        } else {
            digits = digits.checked_mul(10i128.checked_pow(zeros + 1)?)?.checked_add(i128::from(byte - b'0'))?;
            zeros = 0;
        }
    }
    if digits == 0 {
        return Some(0);
    }
    let shift = u32::try_from(behind.checked_add(exponent)?.checked_add(i64::from(zeros))?).ok()?;
    let scaled = digits.checked_mul(10i128.checked_pow(shift)?)?;
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (scaled < limit).then_some(if negative { -scaled } else { scaled })
}

/// A decimal in a string, as [`decimal`] takes it: there may be a plus sign, zeros in front, or no digit on one side of the
/// point. `None` if it is no number.
pub fn loose(text: &[u8]) -> Option<&[u8]> {
    let plus = text.strip_prefix(b"+");
    let (text, body) = plus.map_or_else(|| (text, sign(text).1), |text| (text, text));
    let end = memchr::memchr2(b'e', b'E', body).unwrap_or(body.len());
    let (mantissa, exponent) = body.split_at(end);
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let mut halves = mantissa.splitn(2, |b| *b == b'.');
    let is_number = halves.all(digits) && mantissa.iter().any(u8::is_ascii_digit);
    let exponent = exponent.get(1..).map(|text| text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text));
    (is_number && exponent.is_none_or(|text| !text.is_empty() && digits(text))).then_some(text)
}

/// The decimal that was meant by a number whose last digits are the noise of a double, or of a float that became one: 0.30
/// for 0.30000000000000004 and 1.10 for 1.100000023841858. Nothing else is rounded: the text has the 16 or 17 digits of
/// such a print, the decimal far fewer, and the two are as near as a few steps of a double, or as the nearest float.
pub fn without_noise(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (digits, _) = scientific(sign(text).1)?;
    if !(16..=17).contains(&digits.len()) {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let rounded = format!("{value:.*}", usize::try_from(scale).ok()?);
    let (kept, _) = scientific(sign(rounded.as_bytes()).1)?;
    let near: f64 = rounded.parse().ok()?;
    let of_double = kept.len() <= 14 && (near - value).abs() <= value.abs() * f64::EPSILON * 16.0;
    #[expect(clippy::cast_possible_truncation, reason = "a float is what is looked for")]
    let (float, near) = (value as f32, near as f32);
    let of_float =
        kept.len() <= 6 && f64::from(float).to_bits() == value.to_bits() && near.to_bits() == float.to_bits();
    (of_double || of_float).then(|| decimal(rounded.as_bytes(), precision, scale)).flatten()
}

/// The nearest double of a number. `None` where that would be another number: it is infinite, or a zero that was none,
/// or the text is that of an integer, or of a number beyond 2^53, that is not the double's. An id must not change because
/// its column is a number.
pub fn float64(text: &[u8]) -> Option<f64> {
    let (negative, body) = sign(text);
    if let Some(value) = short_float(body) {
        return Some(if negative { -value } else { value });
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    if value.abs() <= 9_007_199_254_740_992.0 && value.is_normal() {
        // 2^53 may have been rounded to; everything below it loses digits behind the point only.
        return (value.abs() < 9_007_199_254_740_992.0 || is_double(decimal(text, 38, 0)?, value)).then_some(value);
    }
    let whole = body.iter().all(u8::is_ascii_digit);
    let same =
        decimal(text, 38, 0).is_some_and(|exact| is_double(exact, value)) || (!whole && is_print_of(body, value));
    same.then_some(value)
}

/// True if a program that prints `value`, which is very large or very small, may print `body`: doubles that are whole
/// numbers have up to 309 digits, and nobody writes them all.
fn is_print_of(body: &[u8], value: f64) -> bool {
    let Some((digits, exponent)) = scientific(body) else { return value == 0.0 };
    let printed = |text: String| scientific(text.as_bytes()).is_some_and(|print| print == (digits.clone(), exponent));
    let value = value.abs();
    // To as many digits as the text has, or to as few as tell the double apart. No double has more than 767 digits.
    printed(format!("{value:.*e}", digits.len().min(800) - 1)) || printed(format!("{value:e}"))
}

/// The digits of a number without zeros around them, and the power of ten of the first; `None` for zero.
fn scientific(body: &[u8]) -> Option<(Vec<u8>, i64)> {
    let (mantissa, exponent) = split_exponent(body)?;
    let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    let first = digits.iter().position(|digit| *digit != b'0')?;
    digits.drain(..first);
    while digits.pop_if(|digit| *digit == b'0').is_some() {}
    let power = i64::try_from(point).ok()? - i64::try_from(first).ok()? - 1;
    Some((digits, exponent.checked_add(power)?))
}

fn is_double(exact: i128, value: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and a saturated value is not equal")]
    let back = value as i128;
    back == exact
}

/// Up to 15 digits over a power of ten up to 22: both are exact doubles, so one division rounds correctly. Saves 2 % of the
/// target's CPU on a flattened stream (52 columns, medians of 13 runs).
fn short_float(body: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    if body.len() > 16 {
        return None;
    }
    let (mut digits, mut count, mut behind) = (0u64, 0usize, None);
    for &byte in body {
        match byte {
            b'0'..=b'9' => {
                digits = digits * 10 + u64::from(byte - b'0');
                count += 1;
                behind = behind.map(|n| n + 1);
            }
            b'.' if behind.is_none() => behind = Some(0usize),
            _ => return None,
        }
    }
    if count > 15 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "15 digits are below 2^53")]
    let whole = digits as f64;
    Some(whole / POWERS.get(behind.unwrap_or(0))?)
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    }
}

fn split_exponent(body: &[u8]) -> Option<(&[u8], i64)> {
    let Some(at) = memchr::memchr2(b'e', b'E', body) else { return Some((body, 0)) };
    let (mantissa, exponent) = body.split_at(at);
    let exponent = std::str::from_utf8(exponent.get(1..)?).ok()?;
    // A longer exponent can only belong to a zero or to a number that fits nothing.
    Some((mantissa, exponent.parse().unwrap_or(i64::from(i32::MAX))))
}

/// The scale that `multipleOf` asks for: 2 for 0.01. `None` unless it is a number with at most 18 digits behind the point.
pub fn scale_of(multiple: &str) -> Option<i8> {
    (0..=18).find(|scale| decimal(multiple.as_bytes(), 38, *scale).is_some_and(|n| n != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_fit_or_not() {
        assert_eq!(int64(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(int64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int64(b"9223372036854775808"), None);
        assert_eq!(int64(b"1.0"), Some(1));
        assert_eq!(int64(b"1.5e1"), Some(15));
        assert_eq!(int64(b"1.5"), None);
        assert_eq!(int64(b"1e400"), None);
        assert_eq!(int64(b"-0"), Some(0));
        assert_eq!(int64(b"0e999999999999"), Some(0));
    }

    #[test]
    fn doubles_are_exact_for_integers_and_finite() {
        assert_eq!(float64(b"9007199254740993"), None);
        assert_eq!(float64(b"9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(float64(b"1e400"), None);
        assert_eq!(float64(b"-1e400"), None);
        assert_eq!(float64(b"0.1"), Some(0.1));
        assert_eq!(float64(b"-12.5e-3"), Some(-0.0125));
        assert_eq!(float64(b"100000000000000000000000000000000000000000"), None);
        assert!(float64(b"-0").is_some_and(|f| f == 0.0 && f.is_sign_negative()));
    }

    #[test]
    fn no_double_is_another_number_than_its_text() {
        for bad in [
            "9007199254740993.0",
            "-9007199254740993.0",
            "9.007199254740993e15",
            "9007199254740993e0",
            "9007199254740993.5",
            "12345678901234567.89",
            "123456789012345678901234567890.0",
            "1e-400",
            "-1e-400",
            "4.9e-325",
            "0.0000000000000000000000000001e-320",
            "4e-324",
            "1e99999999999999999999",
        ] {
            assert_eq!(float64(bad.as_bytes()), None, "{bad}");
        }
        for (good, value) in [
            ("9007199254740992.0", 9_007_199_254_740_992.0),
            ("9007199254740991.0", 9_007_199_254_740_991.0),
            ("9007199254740994.000000000000000000", 9_007_199_254_740_994.0),
            ("1e23", 1e23),
            ("1.0E+23", 1e23),
            ("9.9999999999999992e22", 1e23),
            ("123456789012345680000.0", 123_456_789_012_345_680_000.0),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", 5e-324),
            ("4.9406564584124654e-324", 5e-324),
            ("2.2250738585072014e-308", f64::MIN_POSITIVE),
            ("0.12345678901234567890123456789", 0.123_456_789_012_345_68),
            ("0.000000000000000000000000000000", 0.0),
            ("0e99999999999999999999", 0.0),
            ("-0.00000000000000000000e5", -0.0),
        ] {
            assert_eq!(float64(good.as_bytes()), Some(value), "{good}");
        }
    }

    #[test]
    fn decimals_lose_nothing() {
        assert_eq!(decimal(b"12.34", 38, 2), Some(1234));
        assert_eq!(decimal(b"-12.3", 38, 2), Some(-1230));
        assert_eq!(decimal(b"12.345", 38, 2), None);
        assert_eq!(decimal(b"12.3400000", 38, 2), Some(1234));
        assert_eq!(decimal(b"1.234e1", 38, 2), Some(1234));
        assert_eq!(decimal(b"100e-2", 38, 0), Some(1));
        assert_eq!(decimal(b"1000", 3, 0), None);
        assert_eq!(decimal(b"999", 3, 0), Some(999));
        assert_eq!(decimal(b"99999999999999999999999999999999999999", 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal(b"100000000000000000000000000000000000000", 38, 0), None);
        assert_eq!(decimal(b"18446744073709551616", 38, 0), Some(1 << 64));
    }

    #[test]
    fn decimals_in_strings_are_written_in_many_ways() {
        for (text, number) in [
            (".5", 50),
            ("+1.5", 150),
            ("007.50", 750),
            ("5.", 500),
            ("-.5", -50),
            ("-0012.", -1200),
            ("+1.5E+1", 1500),
            ("0", 0),
        ] {
            assert_eq!(decimal(loose(text.as_bytes()).unwrap(), 38, 2), Some(number), "{text}");
        }
        for bad in
            ["", ".", "+", "-", "+-1", "--1", "1.2.3", "1e", "1e+", "e5", ".e1", "1 ", "0x1", "NaN", "1,5", "1_0"]
        {
            assert_eq!(loose(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_noise_of_doubles_is_no_part_of_a_decimal_and_everything_else_is() {
        for (text, number) in [
            ("0.30000000000000004", 30),
            ("19.989999999999998", 1999),
            ("434.99999999999994", 43_500),
            ("-0.9999999999999999", -100),
            ("1.100000023841858", 110),
            ("59.970000000000006", 5997),
            ("1234567890.1200001", 123_456_789_012),
        ] {
            assert_eq!(decimal(text.as_bytes(), 38, 2), None, "{text}");
            let near = without_noise(text.as_bytes(), 38, 2);
            assert_eq!(near, Some(number), "{text}");
        }
        for text in ["1.001", "12.345", "1.2345678901234567", "0.123456789012345678901234567890", "0.3000001", "1e-20"]
        {
            assert_eq!(without_noise(text.as_bytes(), 38, 2), None, "{text}");
        }
        assert_eq!(without_noise(b"12.345678901234567", 38, 13), None);
        assert_eq!(without_noise(b"0.12345678901234567", 38, 16), None);
        assert_eq!(without_noise(b"100.00000000000001", 2, 0), None);
    }

    #[test]
    fn multiples_have_a_scale() {
        assert_eq!(scale_of("0.01"), Some(2));
        assert_eq!(scale_of("1e-5"), Some(5));
        assert_eq!(scale_of("1"), Some(0));
        assert_eq!(scale_of("1e-38"), None);
        assert_eq!(scale_of("0"), None);
    }

    proptest! {
        #[test]
        fn floats_are_what_the_standard_library_reads(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(float64(text.as_bytes()), Some(value));
        }

        #[test]
        fn prints_of_floats_are_read_back(value in any::<f64>(), digits in 16usize..24) {
            prop_assume!(value.is_finite());
            prop_assert_eq!(float64(format!("{value:.digits$e}").as_bytes()), Some(value));
        }

        #[test]
        fn short_decimals_too(whole in 0u32.., part in 0u32..1_000_000) {
            let text = format!("{whole}.{part}");
            prop_assert_eq!(float64(text.as_bytes()), Some(text.parse().unwrap()));
        }

        #[test]
        fn every_int64_comes_back(value in any::<i64>()) {
            prop_assert_eq!(int64(value.to_string().as_bytes()), Some(value));
        }
    }
}
