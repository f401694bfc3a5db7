//! Figures of several rounds, and their format.
//!
//! Promise: a median with its spread, never a best case.
//! Must not know: microtally.

/// The measurements of all rounds, one number each.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures(Vec<f64>);

impl Figures {
    pub(super) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Formats the median with its unit, and the least and most in brackets; of one round just the
    /// number.
    pub(super) fn cell(&self, unit: &str) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let write = |figure: f64| format!("{}{unit}", three_digits(figure));
        match sorted[..] {
            [] => "none".to_owned(),
            [only] => write(only),
            [least, .., most] => {
                format!(
                    "{} ({} to {})",
                    write(median(&sorted)),
                    write(least),
                    write(most)
                )
            }
        }
    }

    /// Returns the ratio of the most to the least; 1 if nothing was measured.
    pub(super) fn spread(&self) -> f64 {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(0.0, f64::max);
        if self.0.is_empty() { 1.0 } else { most / least }
    }

    /// Returns the median; 0 if nothing was measured.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        median(&sorted)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Formats three significant digits without an exponent: 0.0086, 1.06, 164.
pub(super) fn three_digits(figure: f64) -> String {
    if figure == 0.0 {
        return "0".to_owned();
    }
    let magnitude = figure.abs().max(1e-9).log10().floor() as i32;
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
    format!("{figure:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_a_median_a_spread_and_three_digits() {
        let cell = |figures: &[f64]| Figures(figures.to_vec()).cell("x");
        assert_eq!(cell(&[]), "none");
        assert_eq!(cell(&[0.008_62]), "0.00862x");
        assert_eq!(cell(&[3.0, 1.0, 2.0]), "2.00x (1.00x to 3.00x)");
        assert_eq!(cell(&[163.6, 152.0]), "158x (152x to 164x)");
        assert_eq!(three_digits(1234.5), "1234");
        assert_eq!(three_digits(0.0), "0");
        assert_eq!(Figures(vec![2.0, 1.0, 3.0]).spread(), 3.0);
    }
}
