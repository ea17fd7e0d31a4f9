//! [`Logistic`]: logistic regression, fitted by Newton's method; what a churn model is compared with.

/// A logistic regression on standardised features.
#[derive(Clone, Debug)]
pub(super) struct Logistic {
    means: Vec<f64>,
    scales: Vec<f64>,
    /// The bias last.
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits rows of equally many features, with an L2 penalty of `ridge` on the weights (the bias is spared). Nothing if
    /// there are no rows.
    pub(super) fn fit(rows: &[Vec<f64>], labels: &[bool], ridge: f64) -> Option<Self> {
        let width = rows.first()?.len();
        let n = rows.len() as f64;
        let mean = |at: usize| rows.iter().map(|row| row[at]).sum::<f64>() / n;
        let means: Vec<f64> = (0..width).map(mean).collect();
        let deviation = |at: usize| {
            let variance = rows.iter().map(|row| (row[at] - means[at]).powi(2)).sum::<f64>() / n;
            if variance > 1e-12 { variance.sqrt() } else { 1.0 }
        };
        let scales: Vec<f64> = (0..width).map(deviation).collect();
        let mut model = Self { means, scales, weights: vec![0.0; width + 1] };
        let whole: Vec<Vec<f64>> = rows.iter().map(|row| model.standardised(row)).collect();
        for _ in 0..50 {
            let size = width + 1;
            let (mut gradient, mut hessian) = (vec![0.0; size], vec![0.0; size * size]);
            for (row, label) in whole.iter().zip(labels) {
                let p = sigmoid(dot(row, &model.weights));
                let (error, weight) = (p - f64::from(u8::from(*label)), (p * (1.0 - p)).max(1e-9));
                for i in 0..size {
                    gradient[i] += error * row[i];
                    for j in 0..=i {
                        hessian[i * size + j] += weight * row[i] * row[j];
                    }
                }
            }
            for i in 0..width {
                gradient[i] += ridge * model.weights[i];
                hessian[i * size + i] += ridge;
            }
            let Some(step) = solve(&mut hessian, &gradient) else { break };
            model.weights.iter_mut().zip(&step).for_each(|(weight, step)| *weight -= step);
            if step.iter().all(|step| step.abs() < 1e-8) {
                break;
            }
        }
        Some(model)
    }

    fn standardised(&self, row: &[f64]) -> Vec<f64> {
        let each = row.iter().zip(&self.means).zip(&self.scales).map(|((x, mean), scale)| (x - mean) / scale);
        each.chain([1.0]).collect()
    }

    /// The probability of a row.
    pub(super) fn probability(&self, row: &[f64]) -> f64 {
        sigmoid(dot(&self.standardised(row), &self.weights))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Solves `a x = b` for a positive definite `a`, of which the lower half is read and overwritten (Cholesky).
fn solve(a: &mut [f64], b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - sum;
            if i == j {
                if rest <= 1e-12 {
                    return None;
                }
                a[i * n + i] = rest.sqrt();
            } else {
                a[i * n + j] = rest / a[j * n + j];
            }
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i * n + k] * x[k]).sum();
        x[i] = (x[i] - sum) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
        x[i] = (x[i] - sum) / a[i * n + i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn known_weights_are_found_again() {
        let mut dice = Seed::new(4).stream();
        let rows: Vec<Vec<f64>> = (0..20_000)
            .map(|_| vec![f64::from(dice.normal()), 3.0 + 2.0 * f64::from(dice.normal())])
            .collect();
        let truth = |row: &[f64]| sigmoid(1.5 * row[0] - 0.5 * row[1] + 1.0);
        let labels: Vec<bool> = rows.iter().map(|row| dice.uniform_f64() < truth(row)).collect();
        let model = Logistic::fit(&rows, &labels, 1.0).unwrap();
        for row in rows.iter().take(200) {
            assert!((model.probability(row) - truth(row)).abs() < 0.05);
        }
        assert!(Logistic::fit(&[], &[], 1.0).is_none());
        // One label only: no infinity.
        let all = Logistic::fit(&rows[..50], &[true; 50], 1.0).unwrap();
        assert!(all.probability(&rows[0]).is_finite());
    }
}
