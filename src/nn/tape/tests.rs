use super::*;
use crate::seed::Seed;
use std::sync::Arc;

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut noise = Seed::new(seed).stream();
    (0..count).map(|_| noise.normal() * 0.7).collect()
}

fn parameters(shapes: &[(&str, &[usize])]) -> Parameters {
    let mut all = Parameters::default();
    for (n, (name, shape)) in shapes.iter().enumerate() {
        all.push(name, shape, &random(shape.iter().product(), 50 + n as u64));
    }
    all
}

fn id(parameters: &Parameters, name: &str) -> ParameterId {
    parameters.id(name).unwrap()
}

/// Compares the gradients of all parameters and of the input with central differences. The forward pass is f32, so the
/// differences are wide and the bound is loose; a wrong formula is off by far more.
fn check(
    name: &str,
    parameters: &Parameters,
    input: (&[f32], usize),
    f: impl Fn(&mut Tape<'_>, Value) -> Value,
) {
    let mut pool = Pool::default();
    let mut loss = |parameters: &Parameters, input: (&[f32], usize), grads: Option<&mut Vec<f32>>| {
        let mut tape = Tape::new(parameters, &mut pool);
        let x = tape.input(input.0, input.1);
        let out = f(&mut tape, x);
        let weights = random(tape.value(out).len(), 99);
        let total: f64 =
            tape.value(out).iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum();
        let mut back = Vec::new();
        if let Some(grads) = grads {
            tape.backward(out, &weights, grads);
            back = tape.gradient(x).to_vec();
        }
        (total, back)
    };
    let mut grads = vec![0.0; parameters.len()];
    let (_, back) = loss(parameters, input, Some(&mut grads));
    assert!(back.is_empty() || back.len() == input.0.len(), "{name}");
    let near = |numeric: f64, grad: f32, what: String| {
        let error = (numeric - f64::from(grad)).abs() / (1.0 + numeric.abs());
        assert!(error < 4e-3, "{name}: {what}: {numeric} against {grad}");
    };
    const STEP: f32 = 4e-3;
    for (i, grad) in grads.iter().enumerate() {
        let mut at = |delta: f32| {
            let mut moved = parameters.clone();
            moved.values_mut()[i] += delta;
            loss(&moved, input, None).0
        };
        near((at(STEP) - at(-STEP)) / f64::from(2.0 * STEP), *grad, format!("parameter {i}"));
    }
    for (i, grad) in back.iter().enumerate() {
        let mut at = |delta: f32| {
            let mut moved = input.0.to_vec();
            moved[i] += delta;
            loss(parameters, (&moved, input.1), None).0
        };
        near((at(STEP) - at(-STEP)) / f64::from(2.0 * STEP), *grad, format!("input {i}"));
    }
}

/// Two packed rows of five tokens; the second sample of the first row begins at its third.
const STARTS: [u32; 10] = [0, 0, 2, 2, 2, 0, 0, 0, 0, 4];

#[test]
fn every_operation_agrees_with_finite_differences() {
    let p = parameters(&[("w", &[4, 3]), ("b", &[4])]);
    check("linear", &p, (&random(6, 1), 3), |t, x| {
        t.linear(x, id(t.parameters(), "w"), Some(id(t.parameters(), "b")))
    });
    check("tied", &parameters(&[("w", &[3, 3])]), (&random(6, 1), 3), |t, x| {
        let w = id(t.parameters(), "w");
        let y = t.linear(x, w, None);
        let e = t.embedding(w, &[2, 0]);
        let sum = t.add(y, e, 0.5);
        t.linear(sum, w, None)
    });
    let p = parameters(&[("w", &[5])]);
    check("rms_norm", &p, (&random(15, 1), 5), |t, x| t.rms_norm(x, id(t.parameters(), "w"), 1e-5));
    check("rms_norm of heads", &p, (&random(30, 1), 10), |t, x| t.rms_norm(x, id(t.parameters(), "w"), 1e-5));
    let p = parameters(&[("w", &[5]), ("b", &[5])]);
    check("layer_norm", &p, (&random(15, 1), 5), |t, x| {
        t.layer_norm(x, id(t.parameters(), "w"), Some(id(t.parameters(), "b")), 1e-5)
    });
    let none = Parameters::default();
    check("residual", &none, (&random(8, 1), 4), |t, x| {
        let y = t.gelu(x, false);
        let y = t.add(x, y, 1.0);
        t.add(y, x, -0.3)
    });
    check("gelu", &none, (&random(8, 1), 4), |t, x| t.gelu(x, true));
    check("dropout", &none, (&random(40, 1), 4), |t, x| t.dropout(x, 0.3, 5));
    let p = parameters(&[("w", &[4, 4])]);
    check("swiglu", &p, (&random(8, 1), 4), |t, x| {
        let up = t.linear(x, id(t.parameters(), "w"), None);
        t.swiglu(x, up)
    });
    check("loss", &none, (&random(18, 1), 6), |t, x| t.loss(x, &[5, 0, 2], 0.0));
    check("smoothed loss", &none, (&random(18, 1), 6), |t, x| t.loss(x, &[5, 0, 2], 0.2));
    check("dot", &p, (&random(12, 1), 4), |t, x| t.dot(x, id(t.parameters(), "w"), &[3, 0, 3]));
    let p = parameters(&[("w", &[7, 4])]);
    for contrast in [
        Contrast::Softmax { corrected: true },
        Contrast::Softmax { corrected: false },
        Contrast::Binary { power: 0.6 },
    ] {
        // The second row's target was drawn too, and does not stand against itself; one was drawn twice.
        check("sampled loss", &p, (&random(12, 1), 4), |t, x| {
            t.sampled_loss(x, id(t.parameters(), "w"), &[5, 0, 2], &[1, 0, 1, 6], contrast)
        });
    }
    let table = Arc::new(RopeTable::new(&[1.0, 0.1], 1.0, 8));
    check("rope", &none, (&random(24, 1), 8), |t, x| t.rope(x, 2, &table, &[0, 3, 7]));
}

#[test]
fn attention_agrees_with_finite_differences() {
    let p = parameters(&[("q", &[8, 3]), ("k", &[4, 3]), ("v", &[4, 3])]);
    let heads = Heads { queries: 4, keys: 2, dim: 2, length: 5 };
    check("attention", &p, (&random(30, 1), 3), |t, x| {
        let [q, k, v] = ["q", "k", "v"].map(|name| t.linear(x, id(t.parameters(), name), None));
        t.attention([q, k, v], heads, &STARTS)
    });
}

#[test]
fn recurrent_layers_agree_with_finite_differences() {
    for cell in [Cell::Rnn, Cell::Gru, Cell::Lstm] {
        let g = cell.gates() * 3;
        let p = parameters(&[("i", &[g, 2]), ("h", &[g, 3]), ("bi", &[g]), ("bh", &[g])]);
        let run = |t: &mut Tape<'_>, x| {
            let weights = ["i", "h", "bi", "bh"].map(|name| id(t.parameters(), name));
            t.recurrent(x, cell, weights, 5, &STARTS)
        };
        check(&format!("{cell:?}"), &p, (&random(20, 1), 2), run);
    }
}

/// The plain formula, a token at a time.
fn attention_by_hand(q: &[f32], k: &[f32], v: &[f32], heads: Heads, starts: &[u32]) -> Vec<f32> {
    let (qw, kw) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let mut out = vec![0.0; q.len()];
    for i in 0..starts.len() {
        let row = i / heads.length * heads.length;
        for head in 0..heads.queries {
            let kv = head / (heads.queries / heads.keys) * heads.dim;
            let q = &q[i * qw + head * heads.dim..][..heads.dim];
            let seen = row + starts[i] as usize..=i;
            let scores: Vec<f64> = seen
                .clone()
                .map(|j| {
                    let dot: f32 = (0..heads.dim).map(|d| q[d] * k[j * kw + kv + d]).sum();
                    (f64::from(dot) / (heads.dim as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            for (j, score) in seen.zip(scores) {
                for d in 0..heads.dim {
                    out[i * qw + head * heads.dim + d] += (score / total) as f32 * v[j * kw + kv + d];
                }
            }
        }
    }
    out
}

#[test]
fn attention_over_many_blocks_is_the_plain_formula() {
    let heads = Heads { queries: 4, keys: 2, dim: 8, length: 150 };
    // Samples of 70, 75 and 5 tokens, then one that fills its row.
    let starts: Vec<u32> = (0..300)
        .map(|i| {
            if i >= 150 {
                0
            } else if i >= 145 {
                145
            } else if i >= 70 {
                70
            } else {
                0
            }
        })
        .collect();
    let (q, k, v) = (random(300 * 32, 1), random(300 * 16, 2), random(300 * 16, 3));
    let none = Parameters::default();
    let mut pool = Pool::default();
    let mut tape = Tape::new(&none, &mut pool);
    let [a, b, c] = [(&q, 32), (&k, 16), (&v, 16)].map(|(x, width)| tape.input(x, width));
    let out = tape.attention([a, b, c], heads, &starts);
    let expected = attention_by_hand(&q, &k, &v, heads, &starts);
    let far = tape.value(out).iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-5);
    assert!(!far);
}

#[test]
fn the_second_tape_takes_the_buffers_of_the_first() {
    let p = parameters(&[("w", &[64, 64])]);
    let mut pool = Pool::default();
    let mut grads = vec![0.0; p.len()];
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut tape = Tape::new(&p, &mut pool);
        let x = tape.input(&random(64 * 10, 1), 64);
        let y = tape.linear(x, id(&p, "w"), None);
        let y = tape.gelu(y, true);
        tape.backward(y, &[1.0; 640], &mut grads);
        drop(tape);
        held.push(pool.bytes());
    }
    assert!(held[0] > 0 && held.iter().all(|bytes| *bytes == held[0]), "{held:?}");
}

#[test]
fn frozen_parameters_receive_nothing() {
    let mut p = parameters(&[("a", &[3, 3]), ("b", &[3, 3])]);
    p.train_only(|name| name == "a");
    let mut pool = Pool::default();
    let mut tape = Tape::new(&p, &mut pool);
    let x = tape.input(&random(6, 1), 3);
    let y = tape.linear(x, id(&p, "a"), None);
    let y = tape.linear(y, id(&p, "b"), None);
    let mut grads = vec![0.0; p.trainable()];
    tape.backward(y, &[1.0; 6], &mut grads);
    assert!(grads.len() == 9 && grads.iter().all(|g| *g != 0.0));
}
