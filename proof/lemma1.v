(** Steps 1, 4, 5 and 6, first for one input, whatever the distribution, and then for finitely many weighted inputs:
    what the student's gradient step has to do with the teacher's step. At the end, Lemma 1. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From Subliminal Require Import statement calculus curvature.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** ** One input *)
Section OneInput.
Context {R : realType} {X : Type} {p n : nat}.
Variables (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables theta0 dT : 'rV[R]_p.+1.
Hypothesis HLS : imitation_loss LS.

(** What the teacher's step does to the outputs, to first order: J(x) times dT. *)
Definition velocity x : 'rV[R]_n.+1 := 'd (f x) theta0 dT.

Local Notation label := (label f theta0 dT).
Local Notation g x eps := (loss_gradient LS (f x theta0) (label eps x)).
Local Notation M x := (curvature LS (f x theta0)).
Local Notation J x := (jacobian (f x) theta0).

Lemma velocityE x : velocity x = dT *m J x.
Proof. by rewrite mul_rV_lin1. Qed.

Lemma label0 x : label 0 x = f x theta0.
Proof. by rewrite /label scale0r addr0. Qed.

(** Step 1: the chain rule, at every eps and wherever the student starts. *)
Lemma step1_input x eps start : differentiable (f x) start ->
  is_diff start (fun theta => LS (f x theta) (label eps x))
    (dot (loss_gradient LS (f x start) (label eps x) *m (jacobian (f x) start)^T)).
Proof.
move=> fd; apply: (is_diff_ext (is_diff_o (is_diff_jacobian fd) (is_diff_loss HLS _ _))) => // u.
by rewrite dot_mul trmxK.
Qed.

Hypothesis f_differentiable : forall x, differentiable (f x) theta0.

(** Step 4: the label moves along [velocity x], and the gradient by minus the curvature times that. *)
Lemma is_diff_label x : is_diff (0 : R) (label^~ x) (fun h => h *: velocity x).
Proof.
have at0 : theta0 + 0 *: dT = theta0 by rewrite scale0r addr0.
have d := is_diff_at (is_diff_line theta0 dT 0) at0 (is_diff_jacobian (f_differentiable x)).
by apply: (is_diff_ext d) => // h; rewrite /= velocityE scalemxAl.
Qed.

Lemma is_diff_g x : is_diff (0 : R) (fun eps => g x eps) (fun h => - (h *: (velocity x *m M x))).
Proof.
have d := is_diff_at (is_diff_label x) (label0 x) (is_diff_loss_gradient HLS _).
by apply: (is_diff_ext d) => // h; rewrite /= scalemxAl.
Qed.

Lemma is_diff_gv x : is_diff (0 : R) (fun eps => dot (g x eps) (velocity x))
  (fun h => h * - dot (velocity x *m M x) (velocity x)).
Proof.
apply: (is_diff_ext (is_diff_o (is_diff_g x) (is_diff_dotl (velocity x) (g x 0)))) => // h.
by rewrite dotNl dotZl mulrN.
Qed.

(** Step 6: if the first order vanishes, so does the exact term at every eps. *)
Lemma step6_input x eps : dot (velocity x *m M x) (velocity x) = 0 -> dot (g x eps) (velocity x) = 0.
Proof. exact: curvature_null. Qed.

End OneInput.

(** ** Finitely many weighted inputs *)
Section Weighted.
Context {R : realType} {X : finType} {p n : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables theta0 dT : 'rV[R]_p.+1.
Hypothesis HLS : imitation_loss LS.

Local Notation label := (label f theta0 dT).
Local Notation velocity := (velocity f theta0 dT).
Local Notation g x eps := (loss_gradient LS (f x theta0) (label eps x)).
Local Notation M x := (curvature LS (f x theta0)).
Local Notation J x := (jacobian (f x) theta0).
Local Notation d_from start := (d_student (weighted w) f LS start theta0 dT).
Local Notation d_S := (d_from theta0).

(** The Gauss-Newton matrix of the imitation loss, and A, the first order of [dot (d_S eps) dT]. *)
Definition gauss_newton : 'M[R]_p.+1 := \sum_x w x *: (J x *m M x *m (J x)^T).
Definition alignment : R := \sum_x w x * dot (velocity x *m M x) (velocity x).

Lemma alignmentE : alignment = dot (dT *m gauss_newton) dT.
Proof.
rewrite /alignment /gauss_newton mulmx_sumr dot_suml; apply: eq_bigr => x _.
by rewrite -scalemxAr dotZl velocityE !mulmxA [in RHS]dot_mul trmxK.
Qed.

Lemma gauss_newton_symmetric : gauss_newton^T = gauss_newton.
Proof.
rewrite /gauss_newton linear_sum; apply: eq_bigr => x _.
by rewrite linearZ/= !trmx_mul trmxK (step3_curvature_symmetric HLS) mulmxA.
Qed.

(** Step 1. *)
Lemma is_diff_student_objective eps start : (forall x, differentiable (f x) start) ->
  is_diff start (student_objective (weighted w) f LS theta0 dT eps)
    (dot (\sum_x w x *: (loss_gradient LS (f x start) (label eps x) *m (jacobian (f x) start)^T))).
Proof.
move=> fd; have h x := is_diff_mull (w x) (step1_input theta0 dT HLS eps (fd x)).
apply: (is_diff_ext (is_diff_big (index_enum X) h)) => // u.
by rewrite dot_suml; apply: eq_bigr => x _; rewrite dotZl.
Qed.

Lemma d_studentE eps start : (forall x, differentiable (f x) start) -> d_from start eps =
  - \sum_x w x *: (loss_gradient LS (f x start) (label eps x) *m (jacobian (f x) start)^T).
Proof. by move=> fd; congr (- _); exact/is_diff_grad/is_diff_student_objective. Qed.

Hypothesis f_differentiable : forall x, differentiable (f x) theta0.

(** What the two steps have to do with each other, exactly. *)
Theorem step1_exact eps : dot (d_S eps) dT = - \sum_x w x * dot (g x eps) (velocity x).
Proof.
rewrite d_studentE// dotNl dot_suml; congr (- _); apply: eq_bigr => x _.
by rewrite dotZl dot_mul trmxK velocityE.
Qed.

(** A teacher that has not moved has nothing to teach. *)
Lemma d_student0 : d_S 0 = 0.
Proof.
rewrite d_studentE// big1 ?oppr0// => x _.
by rewrite label0 (step2_gradient_zero HLS) mul0mx scaler0.
Qed.

(** Step 4, fact 2: the whole vector, [d_S eps = eps *: (dT *m gauss_newton) + o(eps)]. *)
Theorem step4_first_order : is_diff (0 : R) d_S (fun h => h *: (dT *m gauss_newton)).
Proof.
have h x : is_diff (0 : R) (fun eps => w x *: (g x eps *m (J x)^T))
    (fun h => w x *: - (h *: (velocity x *m M x *m (J x)^T))).
  have dgJ := is_diff_o (is_diff_g dT HLS f_differentiable x) (is_diff_mulmxr (J x)^T (g x 0)).
  by apply: (is_diff_ext (is_diff_scale (w x) dgJ)) => // k; rewrite mulNmx -scalemxAl.
apply: (is_diff_ext (is_diff_opp (is_diff_big (index_enum X) h))) => [eps|k] /=.
  by rewrite d_studentE.
rewrite -sumrN mulmx_sumr scaler_sumr; apply: eq_bigr => x _.
by rewrite scalerN opprK velocityE -scalemxAr !mulmxA !scalerA mulrC.
Qed.

(** Step 5: the product is [eps * alignment + o(eps)], and the alignment is not negative. *)
Lemma is_diff_dot : is_diff (0 : R) (fun eps => dot (d_S eps) dT) (fun h => h * alignment).
Proof.
apply: (is_diff_ext (is_diff_o step4_first_order (is_diff_dotl dT (d_S 0)))) => // h.
by rewrite /= dotZl -alignmentE.
Qed.

Theorem step5_first_order c : 0 < c ->
  small_eps (fun eps => `|dot (d_S eps) dT - eps * alignment| <= c * eps).
Proof.
move=> c0; apply: small_epsW (small_eps_taylor is_diff_dot c0) => eps _.
by rewrite d_student0 dot0l subr0.
Qed.

Lemma step5_positive : 0 < alignment -> small_eps (fun eps => 0 < dot (d_S eps) dT).
Proof.
move=> A0; have dN : is_diff (0 : R) (fun eps => - dot (d_S eps) dT) (fun h => h * - alignment).
  by apply: (is_diff_ext (is_diff_opp is_diff_dot)) => // h; rewrite mulrN.
have := small_eps_decrease dN; rewrite oppr_lt0 => /(_ A0).
by apply: small_epsW => eps _; rewrite d_student0 dot0l oppr0 oppr_lt0.
Qed.

Hypothesis w_ge0 : forall x, 0 <= w x.

Lemma gauss_newton_psd u : 0 <= dot (u *m gauss_newton) u.
Proof.
rewrite /gauss_newton mulmx_sumr dot_suml; apply: sumr_ge0 => x _.
by rewrite -scalemxAr dotZl mulr_ge0// !mulmxA dot_mul trmxK (step3_curvature_psd HLS).
Qed.

Theorem step5_alignment_ge0 : 0 <= alignment.
Proof. by rewrite alignmentE gauss_newton_psd. Qed.

(** Step 6: if the alignment is 0, the product is exactly 0, at every eps: the orthogonal branch. *)
Theorem step6_orthogonal : alignment = 0 -> forall eps, dot (d_S eps) dT = 0.
Proof.
move=> /eqP; rewrite psumr_eq0 => [|x _]; last by rewrite mulr_ge0// (step3_curvature_psd HLS).
move=> /allP A0 eps; rewrite step1_exact big1 ?oppr0// => x _.
have /(_ x (mem_index_enum x)) := A0; rewrite mulf_eq0 => /orP[/eqP->|/eqP vMv0].
  by rewrite mul0r.
by rewrite (step6_input HLS eps vMv0) mulr0.
Qed.

(** Steps 5 and 6 together. *)
Theorem lemma_1_dichotomy :
  (alignment = 0 /\ forall eps, dot (d_S eps) dT = 0) \/
  (0 < alignment /\ small_eps (fun eps => 0 < dot (d_S eps) dT)).
Proof.
have := step5_alignment_ge0; rewrite le_eqVlt => /predU1P[/esym A0|A0]; [left|right]; split=> //.
  exact: step6_orthogonal.
exact: step5_positive.
Qed.

End Weighted.

Theorem lemma_1 : Lemma_1.
Proof.
move=> R X p n w f LS theta0 dT w0 fd HLS.
have [[_ orthogonal]|[_]] := lemma_1_dichotomy dT HLS fd w0; first by exists 1 => // eps _ _; rewrite orthogonal.
by apply: small_epsW => eps _ /ltW.
Qed.
