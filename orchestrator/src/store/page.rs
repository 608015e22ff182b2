//! One page of a stored list, sorted by any expression and then by what makes a row unique.

use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Store, StoreError, parse};

/// A list. The texts are ours, never a client's.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// The table.
    pub table: &'static str,
    /// The column with the item's JSON.
    pub body: &'static str,
    /// The column that makes a row unique, as text.
    pub unique: &'static str,
    /// What it is sorted by.
    pub key: &'static str,
}

/// What a row has to fulfil: an expression that ends in a comparison, and the value on its right.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(pub &'static str, pub Value);

/// A row with its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed<T> {
    /// The sort key's value.
    pub key: Value,
    /// What makes it unique.
    pub unique: String,
    /// The item.
    pub item: T,
}

fn bind(query: &mut QueryBuilder<Sqlite>, value: &Value) {
    match value {
        Value::Null => query.push_bind(None::<String>),
        Value::Bool(value) => query.push_bind(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => query.push_bind(whole),
            None => query.push_bind(number.as_f64()),
        },
        Value::String(text) => query.push_bind(text.clone()),
        other => query.push_bind(other.to_string()),
    };
}

impl Store {
    /// At most `limit` rows behind `after` (a key and a unique value) that fulfil every condition.
    pub async fn page<T: DeserializeOwned>(
        &self,
        listing: Listing,
        conditions: &[Condition],
        after: Option<(&Value, &str)>,
        descending: bool,
        limit: u32,
    ) -> Result<Vec<Placed<T>>, StoreError> {
        let Listing { table, body, unique, key } = listing;
        let mut query = QueryBuilder::<Sqlite>::new(format!(
            "SELECT {body}, json_quote({key}), CAST({unique} AS TEXT) FROM {table} WHERE 1"
        ));
        for Condition(expression, value) in conditions {
            query.push(" AND ").push(expression).push(" ");
            bind(&mut query, value);
        }
        let (than, direction) = if descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some((value, name)) = after {
            // NULL sorts first and compares with nothing, so it is spelt out.
            query.push(format!(" AND (({key} IS NOT NULL, {key}, CAST({unique} AS TEXT)) {than} ("));
            bind(&mut query, &Value::from(!value.is_null()));
            query.push(", ");
            bind(&mut query, value);
            query.push(", ");
            query.push_bind(name.to_owned());
            query.push(")");
            query.push(format!(" OR ({key} IS NULL AND "));
            bind(&mut query, &Value::from(value.is_null()));
            query.push(format!(" AND CAST({unique} AS TEXT) {than} "));
            query.push_bind(name.to_owned());
            query.push("))");
        }
        query.push(format!(" ORDER BY {key} {direction}, CAST({unique} AS TEXT) {direction} LIMIT "));
        query.push_bind(limit);
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                Ok(Placed { key: parse(table, row.get(1))?, unique: row.get(2), item: parse(table, row.get(0))? })
            })
            .collect()
    }
}
