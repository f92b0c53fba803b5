//! Batch patterns in the words of accel-config's tests (`-e`): `bc_fault,bc_wr_fail,da_fault,da_fault_idx`, then for each descriptor
//! `:desc_fault,cp_fault,cp_wr_fail,fence` (idxd-facts section 6.3). Each is 0 or 1 but for the index; what is left out is 0.
//!
//! | word | here |
//! |---|---|
//! | `bc_fault`, `bc_wr_fail` | the batch's own record lies in an absent page, or where nothing is mapped |
//! | `da_fault`, `da_fault_idx` | the list's pages from that descriptor on are absent |
//! | `desc_fault` | the descriptor finds nothing at its source |
//! | `cp_fault`, `cp_wr_fail` | as of the batch's, for the descriptor's record |
//! | `fence` | the descriptor has a fence |

use std::str::FromStr;

use crate::{Element, Habit};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Of the batch's own record.
    pub own: Habit,
    pub list_border: Option<u16>,
    /// Those behind are ordinary.
    pub elements: Vec<Element>,
}

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut groups = text.split(':');
        let [fault, fails, list, index] = numbers(groups.next().unwrap_or_default())?;
        let border = match (bit("da_fault", list)?, index) {
            (true, index) => {
                Some(u16::try_from(index).map_err(|_| format!("da_fault_idx {index}: too large"))?)
            }
            (false, 0) => None,
            (false, _) => return Err("da_fault_idx without da_fault".into()),
        };
        let element = |group: &str| {
            let [nothing, fault, fails, fence] = numbers(group)?;
            Ok(Element {
                habit: habit(bit("cp_fault", fault)?, bit("cp_wr_fail", fails)?),
                fence: bit("fence", fence)?,
                failing: bit("desc_fault", nothing)?,
            })
        };
        Ok(Self {
            own: habit(bit("bc_fault", fault)?, bit("bc_wr_fail", fails)?),
            list_border: border,
            elements: groups.map(element).collect::<Result<_, String>>()?,
        })
    }
}

const fn habit(fault: bool, fails: bool) -> Habit {
    match (fault, fails) {
        (_, true) => Habit::Unmapped,
        (true, false) => Habit::Absent,
        (false, false) => Habit::Resident,
    }
}

fn bit(name: &str, number: u32) -> Result<bool, String> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(format!("{name} is 0 or 1, not {number}")),
    }
}

fn numbers(group: &str) -> Result<[u32; 4], String> {
    let mut four = [0; 4];
    let words: Vec<&str> = group.split(',').collect();
    if words.len() > four.len() {
        return Err(format!("`{group}`: more than four numbers in a group"));
    }
    for (number, word) in four.iter_mut().zip(words) {
        *number = word.trim().parse().map_err(|_| format!("`{group}`: `{word}` is no number"))?;
    }
    Ok(four)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_accel_config() {
        let words: Words = "1,0,1,2:1:0,1:0,1,1:0,0,0,1".parse().unwrap();
        let element = |habit, failing, fence| Element { habit, fence, failing };
        assert_eq!(
            words,
            Words {
                own: Habit::Absent,
                list_border: Some(2),
                elements: vec![
                    element(Habit::Resident, true, false),
                    element(Habit::Absent, false, false),
                    element(Habit::Unmapped, false, false),
                    element(Habit::Resident, false, true),
                ],
            }
        );
        assert_eq!("0,1".parse::<Words>().unwrap().own, Habit::Unmapped);
        for wrong in ["", "x", "2", "0,0,0,1", "0,0,0,0,0", "0:0,0,0,7", "0,0,1,65536"] {
            assert!(wrong.parse::<Words>().is_err(), "{wrong}");
        }
    }
}
