//! Lists, a page at a time: `limit`, `sort` (a name, or `-name` for the other way round) and `cursor`, beside each list's
//! own filter.
//!
//! A cursor holds the sort order with the last item's key and name. The next page begins behind that place, so a list that
//! changes meanwhile neither repeats nor skips what stays.

use std::borrow::Cow;
use std::cmp::Ordering;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fog_api::list::List;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

use super::{RouteError, input};
use crate::store::{Condition, Listing, Store};

/// What every list takes beside its filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "K: SortKey"))]
pub(super) struct Paging<K: SortKey> {
    #[serde(default)]
    limit: Limit,
    sort: Option<Sort<K>>,
    cursor: Option<String>,
}

/// By hand: the derived one asks for a schema of `K`, which has none.
impl<K: SortKey> IntoParams for Paging<K> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(1))
            .maximum(Some(1000));
        let cursor = ObjectBuilder::new().schema_type(Type::String);
        [
            ("limit", "At most so many items.", Schema::from(limit)),
            ("sort", "The order; `-` in front turns it round.", Sort::<K>::schema()),
            ("cursor", "`next_cursor` of the page before.", Schema::from(cursor)),
        ]
        .map(|(name, description, schema)| {
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
            parameter.required(Required::False).description(Some(description)).schema(Some(schema)).build()
        })
        .into()
    }
}

const PAGING: [&str; 3] = ["limit", "sort", "cursor"];

/// The filter of a list without one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Everything {}

/// The query of a list: what page is asked for, and the list's own filter. They are read apart: serde cannot both flatten
/// a struct and name the parameters that it does not know.
pub(super) struct Listed<F, K>(pub Asked<K>, pub F);

impl<F: DeserializeOwned, K: SortKey, S: Send + Sync> FromRequestParts<S> for Listed<F, K> {
    type Rejection = RouteError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RouteError> {
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let (paging, own): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| PAGING.contains(&name.as_ref()));
        let text = |pairs| {
            form_urlencoded::Serializer::new(String::new())
                .extend_pairs::<Vec<(Cow<'_, str>, Cow<'_, str>)>, _, _>(pairs)
                .finish()
        };
        let paging: Paging<K> = input::query(&text(paging))?;
        let own = input::query(&text(own)).map_err(|error| match error {
            RouteError::Parameter { name, detail } if detail.starts_with("unknown field") => {
                RouteError::parameter(name, format!("{detail}; every list takes limit, sort and cursor too"))
            }
            error => error,
        })?;
        Ok(Self(Asked::new(paging.limit, paging.sort, paging.cursor.as_deref())?, own))
    }
}

/// How many items a page holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(pub u32);

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            limit @ 1..=1000 => Ok(Self(limit)),
            other => Err(serde::de::Error::custom(format!("{other} is out of range; give 1 to 1000"))),
        }
    }
}

/// What a list can be sorted by.
pub(super) trait SortKey: Copy + PartialEq + Send + Sync + 'static {
    /// Every key by its name; the first is the default.
    const NAMES: &'static [(&'static str, Self)];
    /// Whether the default is the other way round: newest first.
    const DESCENDING: bool = false;
}

/// `sort=KEY` or `sort=-KEY`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sort<K> {
    /// By what.
    pub by: K,
    /// The other way round.
    pub descending: bool,
}

impl<K: SortKey> Default for Sort<K> {
    fn default() -> Self {
        Self { by: K::NAMES[0].1, descending: K::DESCENDING }
    }
}

impl<K: SortKey> Sort<K> {
    fn word(self) -> String {
        let name = K::NAMES.iter().find(|(_, key)| *key == self.by).map_or("", |(name, _)| name);
        if self.descending { format!("-{name}") } else { name.to_owned() }
    }

    /// The parameter's schema.
    pub fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Self::words())).into()
    }

    fn words() -> Vec<String> {
        K::NAMES.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("-{name}")]).collect()
    }
}

impl<'de, K: SortKey> Deserialize<'de> for Sort<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (name, descending) = text.strip_prefix('-').map_or((text.as_str(), false), |name| (name, true));
        match K::NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, by)) => Ok(Self { by: *by, descending }),
            None => Err(serde::de::Error::custom(format!(
                "nothing is sorted by {text:?}; give one of: {}",
                Self::words().join(", ")
            ))),
        }
    }
}

/// Where a page begins: behind this key and name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// The sort key's value.
    pub key: Value,
    /// What makes the item unique.
    pub name: String,
}

fn encode<K: SortKey>(sort: Sort<K>, place: &Place) -> String {
    let text = serde_json::json!([sort.word(), place.key, place.name]).to_string();
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn decode<K: SortKey>(sort: Sort<K>, cursor: &str) -> Result<Place, RouteError> {
    let wrong = |detail: &str| RouteError::parameter("cursor", detail);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor);
    let read = bytes.ok().and_then(|bytes| serde_json::from_slice::<(String, Value, String)>(&bytes).ok());
    let Some((word, key, name)) = read else {
        return Err(wrong("it is no cursor of this list; give `next_cursor` of the page before, unchanged"));
    };
    if word != sort.word() {
        return Err(wrong(&format!("it belongs to sort={word}; give the same `sort` as for the page before")));
    }
    if key.is_array() || key.is_object() {
        return Err(wrong("it is no cursor of this list; give `next_cursor` of the page before, unchanged"));
    }
    Ok(Place { key, name })
}

/// What a stored item has to fulfil.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    /// Adds `expression value`, if there is a value.
    pub fn add(&mut self, expression: &'static str, value: Option<impl Into<Value>>) {
        self.0.extend(value.map(|value| Condition(expression, value.into())));
    }
}

/// What a request asks of a list.
#[derive(Debug, Clone)]
pub(super) struct Asked<K> {
    /// At most so many.
    pub limit: u32,
    /// In which order.
    pub sort: Sort<K>,
    /// Where to begin.
    pub after: Option<Place>,
}

impl<K: SortKey> Asked<K> {
    /// Reads the three parameters.
    pub fn new(limit: Limit, sort: Option<Sort<K>>, cursor: Option<&str>) -> Result<Self, RouteError> {
        let sort = sort.unwrap_or_default();
        let after = cursor.map(|cursor| decode(sort, cursor)).transpose()?;
        Ok(Self { limit: limit.0, sort, after })
    }

    /// One page of a list that is in memory.
    pub fn page<T>(
        &self,
        items: Vec<T>,
        name: impl Fn(&T) -> String,
        key: impl Fn(&T, K) -> Value,
    ) -> Result<List<T>, RouteError> {
        let mut items: Vec<(Place, T)> = items
            .into_iter()
            .map(|item| (Place { key: key(&item, self.sort.by), name: name(&item) }, item))
            .filter(|(place, _)| self.after.as_ref().is_none_or(|after| self.order(place, after) == Ordering::Greater))
            .collect();
        items.sort_by(|(a, _), (b, _)| self.order(a, b));
        let more = items.len() > self.limit as usize;
        items.truncate(self.limit as usize);
        let next_cursor = if more { items.last().map(|(place, _)| encode(self.sort, place)) } else { None };
        Ok(List { items: items.into_iter().map(|(_, item)| item).collect(), next_cursor })
    }

    /// One page of a list that is in memory under its items' names, which come in order. Asked for by name, no more is
    /// looked at than the page needs.
    pub fn page_by_name<'a, T>(
        &self,
        names: impl DoubleEndedIterator<Item = &'a str>,
        view: impl Fn(&'a str) -> Option<T>,
        by_name: K,
        key: impl Fn(&T, K) -> Value,
    ) -> Result<List<T>, RouteError>
    where
        K: PartialEq,
    {
        let named = |name: &'a str| view(name).map(|item| (name, item));
        if self.sort.by != by_name {
            let items = names.filter_map(named).collect();
            let list = self.page(items, |(name, _)| (*name).to_owned(), |(_, item), by| key(item, by))?;
            let items = list.items.into_iter().map(|(_, item)| item).collect();
            return Ok(List { items, next_cursor: list.next_cursor });
        }
        let after = self.after.as_ref().map(|place| place.name.as_str());
        let wanted = self.limit as usize + 1;
        let mut items: Vec<(&str, T)> = if self.sort.descending {
            let rest = names.rev().skip_while(|name| after.is_some_and(|after| *name >= after));
            rest.filter_map(named).take(wanted).collect()
        } else {
            let rest = names.skip_while(|name| after.is_some_and(|after| *name <= after));
            rest.filter_map(named).take(wanted).collect()
        };
        let more = items.len() == wanted;
        items.truncate(self.limit as usize);
        let last = items.last().map(|(name, item)| Place { key: key(item, by_name), name: (*name).to_owned() });
        let next_cursor = last.filter(|_| more).map(|place| encode(self.sort, &place));
        Ok(List { items: items.into_iter().map(|(_, item)| item).collect(), next_cursor })
    }

    /// One page out of the store, which is asked for one item more, to see whether there are more.
    pub async fn stored<T: DeserializeOwned>(
        &self,
        store: &Store,
        listing: Listing,
        conditions: &Conditions,
    ) -> Result<List<T>, RouteError> {
        let after = self.after.as_ref().map(|place| (&place.key, place.name.as_str()));
        let mut rows = store.page::<T>(listing, &conditions.0, after, self.sort.descending, self.limit + 1).await?;
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        let last = rows.last().map(|row| Place { key: row.key.clone(), name: row.unique.clone() });
        let next_cursor = last.filter(|_| more).map(|place| encode(self.sort, &place));
        Ok(List { items: rows.into_iter().map(|row| row.item).collect(), next_cursor })
    }

    fn order(&self, a: &Place, b: &Place) -> Ordering {
        let order = compare(&a.key, &b.key).then_with(|| a.name.cmp(&b.name));
        if self.sort.descending { order.reverse() } else { order }
    }
}

/// What is not known comes first, as in the store.
fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        _ => 3,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum By {
        Name,
        Load,
    }

    impl SortKey for By {
        const NAMES: &'static [(&'static str, Self)] = &[("name", By::Name), ("load", By::Load)];
    }

    fn walk(items: &[(&str, Option<f64>)], sort: &str, limit: u32) -> Vec<String> {
        let sort: Sort<By> = serde_json::from_value(sort.into()).unwrap();
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let asked = Asked::new(Limit(limit), Some(sort), cursor.as_deref()).unwrap();
            let key = |item: &(&str, Option<f64>), by| match by {
                By::Name => Value::from(item.0),
                By::Load => Value::from(item.1),
            };
            let list = asked.page(items.to_vec(), |item| item.0.to_owned(), key).unwrap();
            seen.extend(list.items.iter().map(|item| item.0.to_owned()));
            match list.next_cursor {
                Some(next) => cursor = Some(next),
                None => return seen,
            }
        }
    }

    #[test]
    fn pages_of_every_size_are_the_whole_list_in_order() {
        let items = [("c", Some(0.5)), ("a", None), ("d", Some(0.5)), ("b", Some(0.25)), ("e", None)];
        for limit in 1..=6 {
            assert_eq!(walk(&items, "name", limit), ["a", "b", "c", "d", "e"]);
            assert_eq!(walk(&items, "-load", limit), ["d", "c", "b", "e", "a"]);
        }
    }

    #[test]
    fn a_foreign_cursor_is_refused_by_name() {
        let by_name = Asked::<By>::new(Limit(1), None, None).unwrap();
        let list = by_name.page(vec!["a", "b"], |name| (*name).to_owned(), |name, _| Value::from(*name)).unwrap();
        let sort = Some(Sort { by: By::Load, descending: false });
        for cursor in [list.next_cursor.as_deref().unwrap(), "nonsense", ""] {
            let error = Asked::new(Limit(1), sort, Some(cursor)).unwrap_err().to_string();
            assert!(error.starts_with("cursor: it "), "{error}");
        }
    }
}
