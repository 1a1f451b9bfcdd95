//! What a guest passes to a statement, as PostgreSQL wants it. A type must match the column's: nothing is
//! converted, as on Spin.

use std::error::Error as StdError;
use std::str::FromStr;

use postgres_protocol::types::{RangeBound, range_to_sql};
use rust_decimal::Decimal;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::{Interval, Range};
use crate::component_host::capability::bindings::spin::postgres::postgres::{
    Error, ParameterValue, RangeBoundKind,
};

type Parameter = Box<dyn ToSql + Send + Sync>;
type Written = Result<IsNull, Box<dyn StdError + Sync + Send>>;

/// The parameter, or `bad-parameter` when its text or numbers make no value of its type.
pub(super) fn parameter(value: ParameterValue) -> Result<Parameter, Error> {
    Ok(match value {
        ParameterValue::Boolean(value) => Box::new(value),
        ParameterValue::Int8(value) => Box::new(value),
        ParameterValue::Int16(value) => Box::new(value),
        ParameterValue::Int32(value) => Box::new(value),
        ParameterValue::Int64(value) => Box::new(value),
        ParameterValue::Floating32(value) => Box::new(value),
        ParameterValue::Floating64(value) => Box::new(value),
        ParameterValue::Str(value) => Box::new(value),
        ParameterValue::Binary(value) => Box::new(value),
        ParameterValue::Date((year, month, day)) => Box::new(date(year, month, day)?),
        ParameterValue::Time((hour, minute, second, nanosecond)) => {
            Box::new(time(hour, minute, second, nanosecond)?)
        }
        ParameterValue::Datetime((year, month, day, hour, minute, second, nanosecond)) => {
            let time = time(hour, minute, second, nanosecond)?;
            Box::new(PrimitiveDateTime::new(date(year, month, day)?, time))
        }
        ParameterValue::Timestamp(seconds) => {
            Box::new(OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| bad("timestamp"))?)
        }
        ParameterValue::Uuid(text) => Box::new(Uuid::parse_str(&text).map_err(|_| bad("UUID"))?),
        ParameterValue::Jsonb(json) => Box::new(Jsonb::checked(json)?),
        ParameterValue::Decimal(text) => Box::new(decimal(&text)?),
        ParameterValue::RangeInt32(range) => Box::new(Bounds(range)),
        ParameterValue::RangeInt64(range) => Box::new(Bounds(range)),
        ParameterValue::RangeDecimal((lower, upper)) => {
            let bound = |bound: Option<(String, RangeBoundKind)>| {
                bound.map(|(text, kind)| Ok((decimal(&text)?, kind))).transpose()
            };
            Box::new(Bounds((bound(lower)?, bound(upper)?)))
        }
        ParameterValue::ArrayInt32(values) => Box::new(values),
        ParameterValue::ArrayInt64(values) => Box::new(values),
        ParameterValue::ArrayDecimal(texts) => {
            let values = texts.iter().map(|text| text.as_deref().map(decimal).transpose());
            Box::new(values.collect::<Result<Vec<Option<Decimal>>, Error>>()?)
        }
        ParameterValue::ArrayStr(values) => Box::new(values),
        ParameterValue::Interval(interval) => Box::new(interval),
        ParameterValue::DbNull => Box::new(Null),
    })
}

fn bad(what: &str) -> Error {
    Error::BadParameter(format!("invalid {what}"))
}

fn date(year: i32, month: u8, day: u8) -> Result<Date, Error> {
    let month = Month::try_from(month).map_err(|_| bad("date"))?;
    Date::from_calendar_date(year, month, day).map_err(|_| bad("date"))
}

fn time(hour: u8, minute: u8, second: u8, nanosecond: u32) -> Result<Time, Error> {
    Time::from_hms_nano(hour, minute, second, nanosecond).map_err(|_| bad("time"))
}

fn decimal(text: &str) -> Result<Decimal, Error> {
    Decimal::from_str(text).map_err(|_| bad("decimal"))
}

/// `NULL` of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Written {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// JSON as the guest wrote it.
#[derive(Debug)]
struct Jsonb(Vec<u8>);

impl Jsonb {
    fn checked(json: Vec<u8>) -> Result<Self, Error> {
        serde_json::from_slice::<serde::de::IgnoredAny>(&json).map_err(|_| bad("JSON"))?;
        Ok(Self(json))
    }
}

impl ToSql for Jsonb {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Written {
        // The binary form of JSONB is its text after a version number.
        if *ty == Type::JSONB {
            out.extend_from_slice(&[1]);
        }
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSON | Type::JSONB)
    }

    to_sql_checked!();
}

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        out.extend_from_slice(&self.micros.to_be_bytes());
        out.extend_from_slice(&self.days.to_be_bytes());
        out.extend_from_slice(&self.months.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }

    to_sql_checked!();
}

/// A range; a side that is missing is unbounded.
#[derive(Debug)]
struct Bounds<T>(Range<T>);

impl<T: ToSql> ToSql for Bounds<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Written {
        let Kind::Range(element) = ty.kind() else { return Err("not a range".into()) };
        let write = |bound: &Option<(T, RangeBoundKind)>, out: &mut BytesMut| {
            Ok(match bound {
                None => RangeBound::Unbounded,
                Some((value, kind)) => {
                    let null = match value.to_sql(element, out)? {
                        IsNull::No => postgres_protocol::IsNull::No,
                        IsNull::Yes => postgres_protocol::IsNull::Yes,
                    };
                    match kind {
                        RangeBoundKind::Inclusive => RangeBound::Inclusive(null),
                        RangeBoundKind::Exclusive => RangeBound::Exclusive(null),
                    }
                }
            })
        };
        let (lower, upper) = &self.0;
        range_to_sql(|out| write(lower, out), |out| write(upper, out), out)?;
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Range(element) if T::accepts(element))
    }

    to_sql_checked!();
}
