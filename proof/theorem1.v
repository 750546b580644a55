(** Step 7 and Theorem 1: the student's step lowers the loss whose gradient the teacher followed.

    It is proved for two steps that share a symmetric preconditioner Q (fact 10), of which Q = 1 is the theorem. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From Subliminal Require Import statement calculus curvature lemma1.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

Section TraitLoss.
Context {R : realType} {X : finType} {p n : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables (LT : 'rV[R]_p.+1 -> R) (alpha : R) (theta0 dT : 'rV[R]_p.+1) (Q : 'M[R]_p.+1).
Hypothesis w_ge0 : forall x, 0 <= w x.
Hypothesis f_differentiable : forall x, differentiable (f x) theta0.
Hypothesis HLS : imitation_loss LS.
Hypothesis LT_differentiable : differentiable LT theta0.
Hypothesis alpha_gt0 : 0 < alpha.
Hypothesis Q_symmetric : Q^T = Q.
Hypothesis teacher_step : dT = - (grad LT theta0 *m Q).

Local Notation d_S := (d_student (weighted w) f LS theta0 theta0 dT).

(** Step 7: the trait loss changes by [- eps * alpha * alignment], to first order. *)
Theorem step7_trait_loss : is_diff (0 : R) (fun eps => LT (theta0 + alpha *: (d_S eps *m Q)))
  (fun h => h * - (alpha * alignment w f LS theta0 dT)).
Proof.
have at0 : theta0 + alpha *: (d_S 0 *m Q) = theta0 by rewrite d_student0// mul0mx scaler0 addr0.
have d := is_diff_o (step4_first_order w dT HLS f_differentiable) (is_diff_mulmxr Q _).
have d1 := is_diff_add (is_diff_const theta0 0) (is_diff_scale alpha d).
apply: (is_diff_ext (is_diff_at d1 at0 (grad_diff LT_differentiable))) => // h.
rewrite add0r dotZr dotC dot_mul Q_symmetric dotZl.
have -> : grad LT theta0 *m Q = - dT by rewrite teacher_step opprK.
by rewrite dotNr -alignmentE mulrCA mulrN.
Qed.

Theorem theorem_1_preconditioned :
  (forall eps, dot (d_S eps) dT = 0) \/ small_eps (fun eps => LT (theta0 + alpha *: (d_S eps *m Q)) < LT theta0).
Proof.
have [[_ orthogonal]|[A0 _]] := lemma_1_dichotomy dT HLS f_differentiable w_ge0; [by left|right].
have := small_eps_decrease step7_trait_loss; rewrite oppr_lt0 mulr_gt0// => /(_ isT).
by apply: small_epsW => eps _; rewrite d_student0// mul0mx scaler0 addr0.
Qed.

End TraitLoss.

Theorem theorem_1 : Theorem_1.
Proof.
move=> R X p n w f LS LT alpha theta0 w0 fd HLS LTd alpha0.
have teacher_step : - grad LT theta0 = - (grad LT theta0 *m 1%:M) by rewrite mulmx1.
case: (theorem_1_preconditioned w0 fd HLS LTd alpha0 (trmx1 _ _) teacher_step) => [|transfer]; [by left|right].
by apply: small_epsW transfer => eps _; rewrite mulmx1.
Qed.
