//! What PostgreSQL returns, as a guest reads it.

use std::error::Error as StdError;
use std::mem::size_of;

use postgres_protocol::types::{Range as WireRange, RangeBound, range_from_sql};
use rust_decimal::Decimal;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Kind, Type};
use uuid::Uuid;

use super::{Interval, Range};
use crate::component_host::capability::bindings::spin::postgres::postgres::{
    DbDataType, DbValue, Error, RangeBoundKind,
};

type Read<T> = Result<T, Box<dyn StdError + Sync + Send>>;

/// The type of a column. One that the interface has no case for goes by its name.
pub(super) fn data_type(ty: &Type) -> DbDataType {
    match *ty {
        Type::BOOL => DbDataType::Boolean,
        Type::BYTEA => DbDataType::Binary,
        Type::FLOAT4 => DbDataType::Floating32,
        Type::FLOAT8 => DbDataType::Floating64,
        Type::INT2 => DbDataType::Int16,
        Type::INT4 => DbDataType::Int32,
        Type::INT8 => DbDataType::Int64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => DbDataType::Str,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DbDataType::Datetime,
        Type::DATE => DbDataType::Date,
        Type::TIME => DbDataType::Time,
        Type::UUID => DbDataType::Uuid,
        Type::JSONB => DbDataType::Jsonb,
        Type::NUMERIC => DbDataType::Decimal,
        Type::INT4_RANGE => DbDataType::RangeInt32,
        Type::INT8_RANGE => DbDataType::RangeInt64,
        Type::NUM_RANGE => DbDataType::RangeDecimal,
        Type::INT4_ARRAY => DbDataType::ArrayInt32,
        Type::INT8_ARRAY => DbDataType::ArrayInt64,
        Type::NUMERIC_ARRAY => DbDataType::ArrayDecimal,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => DbDataType::ArrayStr,
        Type::INTERVAL => DbDataType::Interval,
        _ => DbDataType::Other(ty.name().to_owned()),
    }
}

/// The row's values, or `value-conversion-failed`, such as for a NUMERIC of more than 28 digits.
pub(super) fn values(row: &Row) -> Result<Vec<DbValue>, Error> {
    (0..row.len())
        .map(|index| value(row, index))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::ValueConversionFailed(error.to_string()))
}

fn value(row: &Row, index: usize) -> Result<DbValue, tokio_postgres::Error> {
    let Some(column) = row.columns().get(index) else { return Ok(DbValue::DbNull) };
    match *column.type_() {
        Type::BOOL => read(row, index, DbValue::Boolean),
        Type::BYTEA => read(row, index, DbValue::Binary),
        Type::FLOAT4 => read(row, index, DbValue::Floating32),
        Type::FLOAT8 => read(row, index, DbValue::Floating64),
        Type::INT2 => read(row, index, DbValue::Int16),
        Type::INT4 => read(row, index, DbValue::Int32),
        Type::INT8 => read(row, index, DbValue::Int64),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => read(row, index, DbValue::Str),
        Type::TIMESTAMP => read(row, index, |at: PrimitiveDateTime| datetime(at.date(), at.time())),
        Type::TIMESTAMPTZ => read(row, index, |at: OffsetDateTime| datetime(at.date(), at.time())),
        Type::DATE => read(row, index, |date: Date| {
            DbValue::Date((date.year(), date.month().into(), date.day()))
        }),
        Type::TIME => read(row, index, |time: Time| DbValue::Time(time.as_hms_nano())),
        Type::UUID => read(row, index, |uuid: Uuid| DbValue::Uuid(uuid.to_string())),
        Type::JSONB => read(row, index, |Jsonb(json)| DbValue::Jsonb(json)),
        Type::NUMERIC => read(row, index, |number: Decimal| DbValue::Decimal(number.to_string())),
        Type::INT4_RANGE => read(row, index, |Bounds(range)| DbValue::RangeInt32(range)),
        Type::INT8_RANGE => read(row, index, |Bounds(range)| DbValue::RangeInt64(range)),
        Type::NUM_RANGE => read(row, index, |Bounds((lower, upper)): Bounds<Decimal>| {
            let text = |bound: Option<(Decimal, RangeBoundKind)>| {
                bound.map(|(number, kind)| (number.to_string(), kind))
            };
            DbValue::RangeDecimal((text(lower), text(upper)))
        }),
        Type::INT4_ARRAY => read(row, index, DbValue::ArrayInt32),
        Type::INT8_ARRAY => read(row, index, DbValue::ArrayInt64),
        Type::NUMERIC_ARRAY => read(row, index, |numbers: Vec<Option<Decimal>>| {
            DbValue::ArrayDecimal(numbers.iter().map(|n| n.map(|n| n.to_string())).collect())
        }),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => {
            read(row, index, DbValue::ArrayStr)
        }
        Type::INTERVAL => read(row, index, DbValue::Interval),
        _ => read(row, index, |Raw(bytes)| DbValue::Unsupported(bytes)),
    }
}

fn read<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    convert: impl FnOnce(T) -> DbValue,
) -> Result<DbValue, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<T>>(index)?.map_or(DbValue::DbNull, convert))
}

fn datetime(date: Date, time: Time) -> DbValue {
    let (hour, minute, second, nanosecond) = time.as_hms_nano();
    let (year, month, day) = (date.year(), date.month().into(), date.day());
    DbValue::Datetime((year, month, day, hour, minute, second, nanosecond))
}

/// How much memory a value takes, in bytes.
pub(super) fn size(value: &DbValue) -> usize {
    let elements = match value {
        DbValue::Str(text) | DbValue::Decimal(text) | DbValue::Uuid(text) => text.len(),
        DbValue::Binary(bytes) | DbValue::Jsonb(bytes) | DbValue::Unsupported(bytes) => bytes.len(),
        DbValue::ArrayInt32(values) => values.len() * size_of::<Option<i32>>(),
        DbValue::ArrayInt64(values) => values.len() * size_of::<Option<i64>>(),
        DbValue::ArrayStr(texts) | DbValue::ArrayDecimal(texts) => texts
            .iter()
            .map(|text| size_of::<Option<String>>() + text.as_ref().map_or(0, String::len))
            .sum(),
        _ => 0,
    };
    size_of::<DbValue>() + elements
}

/// Bytes of a type that the interface has no case for.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Read<Self> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

struct Jsonb(Vec<u8>);

impl<'a> FromSql<'a> for Jsonb {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Read<Self> {
        match raw.split_first() {
            Some((1, json)) => Ok(Self(json.to_vec())),
            _ => Err("JSONB of an unknown version".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

impl<'a> FromSql<'a> for Interval {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Read<Self> {
        let (micros, rest) = raw.split_first_chunk().ok_or("an interval is too short")?;
        let (days, rest) = rest.split_first_chunk().ok_or("an interval is too short")?;
        Ok(Self {
            micros: i64::from_be_bytes(*micros),
            days: i32::from_be_bytes(*days),
            months: i32::from_be_bytes(rest.try_into()?),
        })
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }
}

/// A range. An empty one has neither bound, as on Spin.
struct Bounds<T>(Range<T>);

impl<'a, T: FromSql<'a>> FromSql<'a> for Bounds<T> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Read<Self> {
        let Kind::Range(element) = ty.kind() else { return Err("not a range".into()) };
        let bound = |bound: RangeBound<Option<&'a [u8]>>| -> Read<_> {
            let (raw, kind) = match bound {
                RangeBound::Inclusive(raw) => (raw, RangeBoundKind::Inclusive),
                RangeBound::Exclusive(raw) => (raw, RangeBoundKind::Exclusive),
                RangeBound::Unbounded => return Ok(None),
            };
            raw.map(|raw| Ok((T::from_sql(element, raw)?, kind))).transpose()
        };
        match range_from_sql(raw)? {
            WireRange::Empty => Ok(Self((None, None))),
            WireRange::Nonempty(lower, upper) => Ok(Self((bound(lower)?, bound(upper)?))),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Range(element) if T::accepts(element))
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::private::BytesMut;

    use super::*;
    use crate::component_host::capability::bindings::spin::postgres::postgres::ParameterValue;
    use crate::component_host::capability::postgres::parameter::parameter;

    fn written(value: ParameterValue, ty: &Type) -> Vec<u8> {
        let mut out = BytesMut::new();
        parameter(value).unwrap().to_sql_checked(ty, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn a_range_is_flags_and_bounds() {
        let range = (Some((1, RangeBoundKind::Inclusive)), Some((5, RangeBoundKind::Exclusive)));

        let raw = written(ParameterValue::RangeInt32(range), &Type::INT4_RANGE);
        let Bounds((lower, upper)) = Bounds::<i32>::from_sql(&Type::INT4_RANGE, &raw).unwrap();

        assert_eq!(raw, [2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 5]);
        assert!(matches!(lower, Some((1, RangeBoundKind::Inclusive))));
        assert!(matches!(upper, Some((5, RangeBoundKind::Exclusive))));
    }

    #[test]
    fn a_side_without_a_bound_stays_so() {
        let range = (None, Some(("1.50".to_owned(), RangeBoundKind::Inclusive)));

        let raw = written(ParameterValue::RangeDecimal(range), &Type::NUM_RANGE);
        let Bounds((lower, upper)) = Bounds::<Decimal>::from_sql(&Type::NUM_RANGE, &raw).unwrap();

        assert!(lower.is_none());
        assert_eq!(upper.unwrap().0.to_string(), "1.50");
    }

    #[test]
    fn an_interval_is_microseconds_days_and_months() {
        let interval = Interval { micros: 1, days: 2, months: 3 };

        let raw = written(ParameterValue::Interval(interval), &Type::INTERVAL);
        let read = Interval::from_sql(&Type::INTERVAL, &raw).unwrap();

        assert_eq!(raw, [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!((read.micros, read.days, read.months), (1, 2, 3));
    }

    #[test]
    fn json_keeps_its_bytes_behind_a_version() {
        let raw = written(ParameterValue::Jsonb(b"{ \"a\":1}".to_vec()), &Type::JSONB);

        assert_eq!(raw, b"\x01{ \"a\":1}");
        assert_eq!(Jsonb::from_sql(&Type::JSONB, &raw).unwrap().0, b"{ \"a\":1}");
        assert!(Jsonb::from_sql(&Type::JSONB, b"\x02{}").is_err());
    }

    #[test]
    fn what_makes_no_value_is_a_bad_parameter() {
        for value in [
            ParameterValue::Jsonb(b"{".to_vec()),
            ParameterValue::Uuid("no".into()),
            ParameterValue::Decimal("1.2.3".into()),
            ParameterValue::Date((2026, 2, 30)),
            ParameterValue::Time((24, 0, 0, 0)),
            ParameterValue::Timestamp(i64::MAX),
            ParameterValue::ArrayDecimal(vec![Some("x".into())]),
        ] {
            let shown = format!("{value:?}");
            assert!(matches!(parameter(value), Err(Error::BadParameter(_))), "{shown}");
        }
    }

    #[test]
    fn a_type_that_does_not_match_is_refused() {
        let mut out = BytesMut::new();

        let number = parameter(ParameterValue::Int64(1)).unwrap();

        assert!(number.to_sql_checked(&Type::TEXT, &mut out).is_err());
        assert!(
            parameter(ParameterValue::DbNull)
                .unwrap()
                .to_sql_checked(&Type::TEXT, &mut out)
                .is_ok()
        );
    }
}
