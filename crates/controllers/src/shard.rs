//! A part of the organizations, for one of several sets of controllers that share the work.
//!
//! An organization is in exactly one shard, which follows from its name and the number of shards alone. When that number changes,
//! few organizations move: each goes to the shard that scores highest for its name (rendezvous hashing). What belongs to no
//! organization is the first shard's.

use choreo_api::labels::{GROUP, PLATFORM_NAMESPACE};

/// A part of the organizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Default for Shard {
    /// All organizations.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Shard {
    /// Shard `index`, counted from 0, of `count`. `None` if there is no such one.
    pub fn new(index: u32, count: u32) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Which one it is, counted from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether what belongs to no organization is looked after here.
    pub fn is_first(self) -> bool {
        self.index == 0
    }

    /// Which of `count` shards an organization is in.
    pub fn of(organization: &str, count: u32) -> u32 {
        (0..count)
            .max_by_key(|index| score(*index, organization))
            .unwrap_or(0)
    }

    /// Whether objects of this namespace are looked after here.
    pub fn has(self, namespace: &str) -> bool {
        match namespace {
            _ if self.count == 1 => true,
            "" | PLATFORM_NAMESPACE => self.is_first(),
            organization => Self::of(organization, self.count) == self.index,
        }
    }

    /// Whether an object of the control plane has to be known here: because it is looked after, or because it is used from
    /// everywhere, as what is in the platform's namespace.
    pub fn needs(self, namespace: &str, name: &str) -> bool {
        match namespace {
            _ if self.count == 1 => true,
            PLATFORM_NAMESPACE => true,
            // An organization and its namespace have the same name.
            "" => name == PLATFORM_NAMESPACE || self.has(name),
            namespace => self.has(namespace),
        }
    }

    /// Whether work on an object, by group, namespace and name, is done here.
    pub(crate) fn works_on(self, group: &str, namespace: &str, name: &str) -> bool {
        match namespace {
            "" if group == GROUP => self.has(name),
            namespace => self.has(namespace),
        }
    }
}

/// FNV-1a with a finalizer that spreads its last bits. Must never change: all replicas, of whatever version, have to agree.
fn score(index: u32, organization: &str) -> u64 {
    let bytes = index.to_le_bytes().into_iter().chain(organization.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> impl Iterator<Item = String> {
        (0..1000).map(|n| format!("organization-{n}"))
    }

    #[test]
    fn every_organization_is_in_one_shard_and_shards_are_alike() {
        let mut sizes = [0_u32; 4];
        for name in names() {
            let having: Vec<u32> = (0..4).filter(|i| Shard::new(*i, 4).unwrap().has(&name)).collect();
            assert_eq!(having, [Shard::of(&name, 4)]);
            sizes[having[0] as usize] += 1;
        }
        // 250 each; five standard deviations are about 70.
        assert!(sizes.iter().all(|size| (180..320).contains(size)), "{sizes:?}");
    }

    #[test]
    fn few_move_when_there_is_one_more_shard() {
        let moved: Vec<String> = names()
            .filter(|name| Shard::of(name, 4) != Shard::of(name, 5))
            .collect();
        // A fifth of them, and all to the new one.
        assert!((130..270).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|name| Shard::of(name, 5) == 4));
    }

    #[test]
    fn what_belongs_to_no_organization_is_the_first_ones() {
        let (first, second) = (Shard::new(0, 2).unwrap(), Shard::new(1, 2).unwrap());
        assert!(first.needs(PLATFORM_NAMESPACE, "default") && second.needs(PLATFORM_NAMESPACE, "default"));
        let other = (0..)
            .map(|n| format!("o-{n}"))
            .find(|name| first.has(name))
            .unwrap();
        // The organization, its namespace, and what is in it.
        assert!(first.needs("", &other) && first.needs(&other, "a"));
        assert!(!second.needs("", &other) && !second.needs(&other, "a"));
        assert!(first.has(PLATFORM_NAMESPACE) && !second.has(PLATFORM_NAMESPACE));
        assert_eq!(Shard::new(2, 2), None);
        assert!(Shard::default().has("anything"));
    }
}
