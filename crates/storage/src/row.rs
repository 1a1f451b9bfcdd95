//! Values in and out of statements.

use std::str::FromStr;

use crate::StoreError;

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number, or a boolean as 0 or 1.
    Integer(i64),
    /// Text, JSON included.
    Text(String),
}

impl Value {
    /// Anything that has one textual form, such as an identifier.
    pub fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        value.map_or(Self::Null, Self::Text)
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Integer)
    }
}

/// One row of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// The column, counted from zero.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when it is missing or of another type.
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T, StoreError> {
        self.0
            .get(column)
            .and_then(T::from_value)
            .ok_or(StoreError::Corrupt { column, wanted: std::any::type_name::<T>() })
    }

    /// The column's text as another type.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when it is missing or does not parse.
    pub fn parse<T: FromStr>(&self, column: usize) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        text.parse().map_err(|_| StoreError::Corrupt { column, wanted: std::any::type_name::<T>() })
    }

    /// The column's JSON text as another type.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when it is missing or is not that JSON.
    pub fn json<T: for<'a> serde::Deserialize<'a>>(&self, column: usize) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text)
            .map_err(|_| StoreError::Corrupt { column, wanted: std::any::type_name::<T>() })
    }
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// None when the value is of another type or out of range.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}

impl FromValue for u16 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}
