//! Things with a place: found by number at once, and a place that is left is used again.

use std::ops::{Index, IndexMut};

/// The number of a place. Half a word, because there are many of them: no queue holds four thousand million requests.
pub(super) type Place = u32;

const IS_TAKEN: &str = "a place that is named is taken: `check` holds all names against the places";

/// The places.
#[derive(Debug)]
pub(super) struct Slab<V> {
    places: Vec<Option<V>>,
    free: Vec<Place>,
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<V> Slab<V> {
    pub fn insert(&mut self, value: V) -> Place {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(value);
            return place;
        }
        self.places.push(Some(value));
        Place::try_from(self.places.len() - 1).expect("every limit is smaller than this")
    }

    pub fn remove(&mut self, place: Place) -> Option<V> {
        let value = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(value)
    }

    pub fn get(&self, place: Place) -> Option<&V> {
        self.places.get(place as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut V> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Place, &V)> {
        (0..).zip(&self.places).filter_map(|(place, value)| Some((place, value.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Place, &mut V)> {
        (0..).zip(&mut self.places).filter_map(|(place, value)| Some((place, value.as_mut()?)))
    }

    pub fn places(&self) -> Vec<Place> {
        self.iter().map(|(place, _)| place).collect()
    }
}

impl<V> Index<Place> for Slab<V> {
    type Output = V;
    fn index(&self, place: Place) -> &V {
        self.places[place as usize].as_ref().expect(IS_TAKEN)
    }
}

impl<V> IndexMut<Place> for Slab<V> {
    fn index_mut(&mut self, place: Place) -> &mut V {
        self.places[place as usize].as_mut().expect(IS_TAKEN)
    }
}
