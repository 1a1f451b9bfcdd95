//! `spin:variables` and `wasi:config`: the values that a component's stanza declares, already expanded.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{Accessor, HasData, Linker};

use super::bindings::spin::variables::variables::{self, Error, Host, HostWithStore};
use super::bindings::wasi::config::store as config;
use crate::component_host::variables::check_name;

/// The variables of one component.
#[derive(Clone)]
pub(crate) struct Variables(pub(crate) Arc<BTreeMap<String, String>>);

impl HasData for Variables {
    type Data<'a> = &'a mut Variables;
}

pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut Variables,
) -> Result<()> {
    variables::add_to_linker::<T, Variables>(linker, state)?;
    config::add_to_linker::<T, Variables>(linker, state)
}

impl Host for &mut Variables {}

impl config::Host for &mut Variables {
    async fn get(&mut self, key: String) -> Result<Result<Option<String>, config::Error>> {
        Ok(Ok(self.0.get(&key).cloned()))
    }

    async fn get_all(&mut self) -> Result<Result<Vec<(String, String)>, config::Error>> {
        let all = self.0.iter().map(|(name, value)| (name.clone(), value.clone()));
        Ok(Ok(all.collect()))
    }
}

impl<T: Send> HostWithStore<T> for Variables {
    async fn get(store: &Accessor<T, Self>, name: String) -> Result<Result<String, Error>> {
        if let Err(reason) = check_name(&name) {
            return Ok(Err(Error::InvalidName(reason)));
        }
        let value = store.with(|mut store| store.get().0.get(&name).cloned());
        Ok(value.ok_or_else(|| Error::Undefined(format!("no variable `{name}`"))))
    }
}
