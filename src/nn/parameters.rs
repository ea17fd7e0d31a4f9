//! [`Parameters`]: every weight of a network in one flat slice, with gradients and moments laid out alike.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// One weight tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, as in the checkpoint.
    pub name: String,
    /// Its shape, `[out, in]` for matrices.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub range: Range<usize>,
    /// Where its gradient lies among those of the parameters that learn; empty where it does not.
    pub grads: Range<usize>,
    /// Whether it learns.
    pub trainable: bool,
}

/// Which parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterId(pub(crate) usize);

/// The weights of a network, flat, in the order of names.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    list: Vec<Parameter>,
    /// How many values learn.
    trainable: usize,
    index: HashMap<String, usize>,
    values: Vec<f32>,
}

impl Parameters {
    /// From names, shapes and values, all trainable.
    pub fn new<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>) -> Self {
        let mut all = Self::default();
        for (name, shape, values) in tensors {
            all.push(name, shape, values);
        }
        all
    }

    /// Adds a tensor. Its values are `shape`'s product many.
    pub fn push(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        let start = self.values.len();
        self.values.extend_from_slice(values);
        self.index.insert(name.to_owned(), self.list.len());
        self.list.push(Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
            range: start..self.values.len(),
            grads: self.trainable..self.trainable + values.len(),
            trainable: true,
        });
        self.trainable += values.len();
    }

    /// Decides which parameters learn.
    pub fn train_only(&mut self, chosen: impl Fn(&str) -> bool) {
        self.trainable = 0;
        for parameter in &mut self.list {
            parameter.trainable = chosen(&parameter.name);
            let count = if parameter.trainable { parameter.range.len() } else { 0 };
            parameter.grads = self.trainable..self.trainable + count;
            self.trainable += count;
        }
    }

    /// The parameter of that name.
    pub fn id(&self, name: &str) -> Option<ParameterId> {
        self.index.get(name).copied().map(ParameterId)
    }

    /// What is known of a parameter.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.list[id.0]
    }

    /// Its values.
    pub fn value(&self, id: ParameterId) -> &[f32] {
        &self.values[self.list[id.0].range.clone()]
    }

    /// All of them, in order.
    pub fn list(&self) -> &[Parameter] {
        &self.list
    }

    /// All values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to change.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many values learn: the length of a gradient.
    pub fn trainable(&self) -> usize {
        self.trainable
    }

    /// Names, shapes and values of `flat`, which is laid out like a gradient.
    pub fn split_trainable(&self, flat: &[f32]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let part = |p: &Parameter| (p.name.clone(), (p.shape.clone(), flat[p.grads.clone()].to_vec()));
        self.list.iter().filter(|p| p.trainable).map(part).collect()
    }

    /// Names, shapes and values of `flat`, which is laid out like this.
    pub fn split(&self, flat: &[f32]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        self.split_where(flat, |_| true)
    }

    /// The same, of the chosen parameters only.
    pub fn split_where(
        &self,
        flat: &[f32],
        chosen: impl Fn(&Parameter) -> bool,
    ) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let part = |p: &Parameter| (p.name.clone(), (p.shape.clone(), flat[p.range.clone()].to_vec()));
        self.list.iter().filter(|p| chosen(p)).map(part).collect()
    }
}
