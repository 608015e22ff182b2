//! Which bytes of a process's memory are still to come, exactly.
//!
//! A process may move its mappings while its memory is still on the way. So each byte has two addresses: the one it had
//! when it was frozen, by which the source knows it (*image*), and the one where it belongs now (*current*).

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    len: u64,
    current: u64,
}

/// A piece of memory that is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it was when it was frozen.
    pub image: u64,
    /// Where it belongs now.
    pub current: u64,
    /// Bytes.
    pub len: u64,
}

/// All that is still to come, by its address in the image. Pieces never overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    runs: BTreeMap<u64, Run>,
    bytes: u64,
    /// Some run is no longer where it was.
    moved: bool,
}

impl Runs {
    /// Bytes that are still to come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds what is at the same place now as in the image; what was there already stays as it is.
    pub fn add(&mut self, start: u64, len: u64) {
        self.forget(start, len);
        if len == 0 {
            return;
        }
        self.bytes += len;
        // Neighbours become one.
        if let Some((&before, run)) = self.runs.range_mut(..start).next_back()
            && before + run.len == start
            && run.current == before
        {
            run.len += len;
            return;
        }
        self.runs.insert(start, Run { len, current: start });
    }

    /// What of this range of the image is still to come.
    pub fn pieces(&self, image: u64, len: u64) -> Vec<Piece> {
        let end = image.saturating_add(len);
        let first = self.runs.range(..image).next_back().map_or(image, |(start, _)| *start);
        let touched = self.runs.range(first..end);
        touched
            .filter_map(|(&start, run)| {
                let (from, to) = (start.max(image), (start + run.len).min(end));
                (from < to).then(|| Piece { image: from, current: run.current + (from - start), len: to - from })
            })
            .collect()
    }

    /// The first piece at or behind an address of the image, at most `len` bytes of it.
    pub fn first(&self, image: u64, len: u64) -> Option<Piece> {
        let inside = self.pieces(image, 1).into_iter().next().map(|piece| piece.image);
        let start = inside.or_else(|| self.runs.range(image..).next().map(|(start, _)| *start))?;
        let (&at, run) = self.runs.range(..=start).next_back()?;
        let len = (at + run.len - start).min(len);
        Some(Piece { image: start, current: run.current + (start - at), len })
    }

    /// This range of the image is no longer to come.
    pub fn forget(&mut self, image: u64, len: u64) {
        for piece in self.pieces(image, len) {
            self.cut(piece);
        }
    }

    /// What is still to come at a current address: the piece from there on, at most `len` bytes of it.
    pub fn at(&self, current: u64, len: u64) -> Option<Piece> {
        let found = if self.moved {
            self.runs.iter().find(|(_, run)| (run.current..run.current + run.len).contains(&current))
        } else {
            self.runs.range(..=current).next_back().filter(|(_, run)| current < run.current + run.len)
        };
        let (start, run) = found?;
        let inside = current - run.current;
        Some(Piece { image: start + inside, current, len: (run.len - inside).min(len) })
    }

    /// The process gave this range of its own addresses up.
    pub fn remove(&mut self, start: u64, end: u64) {
        for piece in self.between(start, end) {
            self.cut(piece);
        }
    }

    /// The process moved a range of its own addresses. What it moved over is no longer to come.
    pub fn remap(&mut self, from: u64, to: u64, len: u64) {
        let moving = self.between(from, from.saturating_add(len));
        for piece in &moving {
            self.cut(*piece);
        }
        self.remove(to, to.saturating_add(len));
        for piece in moving {
            self.bytes += piece.len;
            self.runs.insert(piece.image, Run { len: piece.len, current: to + (piece.current - from) });
            self.moved = true;
        }
    }

    /// What is still to come between two current addresses.
    fn between(&self, start: u64, end: u64) -> Vec<Piece> {
        if !self.moved {
            return self.pieces(start, end.saturating_sub(start));
        }
        let pieces = self.runs.iter().filter_map(|(&image, run)| {
            let (from, to) = (run.current.max(start), (run.current + run.len).min(end));
            (from < to).then(|| Piece { image: image + (from - run.current), current: from, len: to - from })
        });
        pieces.collect()
    }

    /// Takes a piece out of the one run that it lies in.
    fn cut(&mut self, piece: Piece) {
        let Some((&start, &run)) = self.runs.range(..=piece.image).next_back() else { return };
        let (end, cut_end) = (start + run.len, piece.image + piece.len);
        self.runs.remove(&start);
        if start < piece.image {
            self.runs.insert(start, Run { len: piece.image - start, current: run.current });
        }
        if cut_end < end {
            self.runs.insert(cut_end, Run { len: end - cut_end, current: run.current + (cut_end - start) });
        }
        self.bytes -= piece.len;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The same, byte for byte: current address by image address.
    #[derive(Default)]
    struct Model(BTreeMap<u64, u64>);

    #[derive(Debug, Clone)]
    enum Step {
        Add(u64, u64),
        Forget(u64, u64),
        Remove(u64, u64),
        Remap(u64, u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (place, len) = (0_u64..64, 0_u64..16);
        prop_oneof![
            (place.clone(), len.clone()).prop_map(|(start, len)| Step::Forget(start, len)),
            (place.clone(), len.clone()).prop_map(|(start, len)| Step::Remove(start, start + len)),
            (place.clone(), 0_u64..128, len.clone()).prop_map(|(from, to, len)| Step::Remap(from, to, len)),
        ]
    }

    fn check(runs: &Runs, model: &Model) {
        assert_eq!(runs.bytes(), model.0.len() as u64);
        let mut all = BTreeMap::new();
        for piece in runs.pieces(0, 1000) {
            for offset in 0..piece.len {
                assert!(all.insert(piece.image + offset, piece.current + offset).is_none());
            }
        }
        assert_eq!(all, model.0);
        for current in 0..200 {
            let here = model.0.iter().find(|(_, at)| **at == current).map(|(image, _)| *image);
            assert_eq!(runs.at(current, 1).map(|piece| piece.image), here, "at {current}");
            let next = model.0.range(current..).next().map(|(image, _)| *image);
            assert_eq!(runs.first(current, 1).map(|piece| piece.image), next, "first {current}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_counted_once(
            adds in prop::collection::vec((0_u64..64, 0_u64..16), 0..8), steps in prop::collection::vec(step(), 0..20)
        ) {
            let (mut runs, mut model) = (Runs::default(), Model::default());
            let adds = adds.into_iter().map(|(start, len)| Step::Add(start, len));
            for step in adds.chain(steps) {
                match step {
                    Step::Add(start, len) => {
                        runs.add(start, len);
                        model.0.extend((start..start + len).map(|byte| (byte, byte)));
                    }
                    Step::Forget(start, len) => {
                        runs.forget(start, len);
                        model.0.retain(|image, _| !(start..start + len).contains(image));
                    }
                    Step::Remove(start, end) => {
                        runs.remove(start, end);
                        model.0.retain(|_, current| !(start..end).contains(current));
                    }
                    // The kernel refuses to move a mapping onto itself.
                    Step::Remap(from, to, len) if to + len <= from || from + len <= to => {
                        runs.remap(from, to, len);
                        model.0.retain(|_, current| !(to..to + len).contains(current));
                        for current in model.0.values_mut() {
                            if (from..from + len).contains(current) {
                                *current = *current - from + to;
                            }
                        }
                    }
                    Step::Remap(..) => {}
                }
                check(&runs, &model);
            }
        }
    }
}
