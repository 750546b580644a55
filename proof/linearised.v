(** Facts 11 and 13: the student stays aligned with the teacher over a whole course of training; and where it ends, from
    whatever start.

    The student is linearised at theta0, [f x theta0 + (theta - theta0) *m J x], and so is the teacher, whose outputs
    it imitates under a squared error by full-batch gradient descent from any start s. With the G of step 4,

      theta_(k+1) = theta_k + eta (teacher - theta_k) G,   theta_k = s + (teacher - s) (1 - P^k),   P = 1 - eta G.

    The condition [forall u, eta * dot (u *m G) u <= dot u u] says that the step size eta is at most 1 over the
    largest eigenvalue of G; every small enough eta serves ([small_steps]). The proof has no eigenvalues: P and 1 - P
    are symmetric, positive semi-definite and commute, and so are the products of their powers. Of these products,
    (1 - P) P^i decreases in i and the first k + 1 sum to at most 1: hence the rate, (k + 1) (1 - P) P^k <= 1. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive sequences.
From Subliminal Require Import statement calculus curvature lemma1.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** ** Symmetric positive semi-definite matrices *)
Section Psd.
Context {R : realType} {p : nat}.
Implicit Types (A B G : 'M[R]_p.+1) (u d : 'rV[R]_p.+1).

Definition psd A := forall u, 0 <= dot (u *m A) u.

Lemma dot_sym A u d : A^T = A -> dot (u *m A) d = dot u (d *m A).
Proof. by move=> symA; rewrite dot_mul symA. Qed.

Lemma psd1 : psd 1.
Proof. by move=> u; rewrite mulmx1 dotvv_ge0. Qed.

Lemma psdD A B : psd A -> psd B -> psd (A + B).
Proof. by move=> A0 B0 u; rewrite mulmxDr dotDl addr_ge0. Qed.

Lemma psdZ (c : R) A : 0 <= c -> psd A -> psd (c *: A).
Proof. by move=> c0 A0 u; rewrite -scalemxAr dotZl mulr_ge0. Qed.

Lemma psd_sandwich A B : A^T = A -> psd B -> psd (A * B * A).
Proof. by move=> symA B0 u; rewrite -!mulmxE !mulmxA dot_sym. Qed.

(** The product of A and 1 - A, which commute: A (1 - A) = A (1 - A) A + (1 - A) A (1 - A). *)
Lemma psd_complement A : A^T = A -> psd A -> psd (1 - A) -> psd (A * (1 - A)).
Proof.
move=> symA A0 B0; have symB : (1 - A)^T = 1 - A by rewrite linearB /= trmx1 symA.
have AB : A * (1 - A) = (1 - A) * A by rewrite mulrBr mulrBl mulr1 mul1r.
have -> : A * (1 - A) = (1 - A) * A * (1 - A) + A * (1 - A) * A.
  by rewrite -AB -mulrDr subrK mulr1.
exact: psdD (psd_sandwich symB A0) (psd_sandwich symA B0).
Qed.

Lemma sym_power A k : A^T = A -> (A ^+ k)^T = A ^+ k.
Proof.
by move=> symA; elim: k => [|k IH]; [exact: trmx1|rewrite exprS -mulmxE trmx_mul IH symA mulmxE -exprSr exprS].
Qed.

(** B A^k for commuting A and B: an even power of A is a square, an odd one leaves a single factor A beside B. *)
Lemma psd_power A B k : A^T = A -> GRing.comm B A -> psd B -> psd (B * A) -> psd (B * A ^+ k).
Proof.
move=> symA BA B0 BA0.
have -> : B * A ^+ k = A ^+ k./2 * (B * A ^+ odd k) * A ^+ k./2.
  rewrite -[in LHS](odd_double_half k) -addnn !exprD !mulrA; congr (_ * _).
  symmetry; rewrite -mulrA; apply: commrM; apply/commr_sym/commrX; first exact: BA.
  exact/commr_sym/commrX/commr_refl.
apply: psd_sandwich; first exact: sym_power.
by case: odd; rewrite ?expr1 ?mulr1.
Qed.

Lemma sqr_le_dotvv u i : u 0 i ^+ 2 <= dot u u.
Proof. by rewrite /dot (bigD1 i)//= expr2 ler_addl sumr_ge0// => j _; rewrite -expr2 sqr_ge0. Qed.

Lemma quadratic_bound A u : dot (u *m A) u <= (\sum_j \sum_i `|A i j|) * dot u u.
Proof.
rewrite {1}/dot mulr_suml; apply: ler_sum => j _; rewrite mxE !mulr_suml; apply: ler_sum => i _.
rewrite mulrAC (le_trans (ler_norm _))// normrM [leLHS]mulrC ler_wpmul2l//.
rewrite -(@ler_pexpn2r _ 2)// ?nnegrE ?dotvv_ge0// -normrX ger0_norm ?sqr_ge0// exprMn [leRHS]expr2.
by apply: ler_pmul; rewrite ?sqr_ge0 ?sqr_le_dotvv.
Qed.

(** The condition on the step size holds for all small ones. *)
Lemma small_steps A : small_eps (fun eta => forall u, eta * dot (u *m A) u <= dot u u).
Proof.
set C := \sum_j \sum_i `|A i j|; have C1 : 0 < C + 1.
  by rewrite ltr_spaddr// sumr_ge0// => j _; rewrite sumr_ge0.
exists (C + 1)^-1 => [|eta eta0 etaC u]; first by rewrite invr_gt0.
rewrite -ler_pdivl_mull// (le_trans (quadratic_bound A u))// ler_wpmul2r ?dotvv_ge0//.
rewrite -/C -[C]addr0 (le_trans (ler_add (lexx C) ler01))// -[leLHS]invrK.
by rewrite lef_pinv ?posrE ?invr_gt0//; exact: ltW.
Qed.

(** ** The orthogonal projection on the range of a symmetric matrix *)
Definition pseudo_inverse G : 'M[R]_p.+1 := G *m pinvmx (G *m G).
Definition projection G : 'M[R]_p.+1 := pseudo_inverse G *m G.

Lemma projectionK G : G^T = G -> projection G *m G = G.
Proof.
move=> symG; suff : (G <= G *m G)%MS by rewrite /projection /pseudo_inverse -mulmxA => /mulmxKpV.
rewrite -(geq_leqif (mxrank_leqif_sup (submxMl G G))) -[X in (X <= _)%N](mxrank_mul_ker G G).
rewrite -[X in (_ <= X)%N]addn0 leq_add2l leqn0 mxrank_eq0; apply/rowV0P => v.
rewrite sub_capmx sub_kermx => /andP[/submxP[w vE] /eqP vG]; apply: dotvv_eq0.
by rewrite [X in dot X _]vE dot_sym// vG dot0r.
Qed.

(** What makes it the orthogonal projection: it is symmetric and idempotent, is the identity on the range of G and
    leaves nothing outside of it ([projection] ends in a product with G), and 0 on the null space. *)
Lemma projection_sym G : G^T = G -> (projection G)^T = projection G.
Proof.
move=> symG; set W := pseudo_inverse G; have GGW : G *m G *m W^T = G.
  by have := congr1 trmx (projectionK symG); rewrite !trmx_mul symG mulmxA.
have tE : projection G = projection G *m (projection G)^T.
  by rewrite [in X in _ *m X]/projection trmx_mul symG -/W /projection -/W -mulmxA (mulmxA G) GGW.
by rewrite [in LHS]tE trmx_mul trmxK -tE.
Qed.

Lemma mul_projection G : G^T = G -> G *m projection G = G.
Proof.
by move=> symG; apply: trmx_inj; rewrite trmx_mul projection_sym// symG projectionK.
Qed.

Lemma projection_idempotent G : G^T = G -> projection G *m projection G = projection G.
Proof. by move=> symG; rewrite [in X in X *m _]/projection -mulmxA mul_projection. Qed.
End Psd.

(** ** The recursion, for any symmetric positive semi-definite G *)
Section Recursion.
Context {R : realType} {p : nat}.
Variables (G : 'M[R]_p.+1) (eta : R) (target s : 'rV[R]_p.+1).

Definition follow k := iter k (fun theta => theta + eta *: ((target - theta) *m G)) s.

Local Notation P := (1 - eta *: G).
Local Notation Q := (eta *: G).

Lemma follow_closed k : follow k = s + (target - s) *m (1 - P ^+ k).
Proof.
elim: k => [|k IH]; first by rewrite expr0 subrr mulmx0 addr0.
rewrite /follow iterS -/(follow k) IH; set d := target - s.
have -> : target - (s + d *m (1 - P ^+ k)) = d *m P ^+ k.
  by rewrite mulmxBr mulmx1 opprD addrA -/d opprB addrC subrK.
rewrite -addrA -mulmxA scalemxAr -mulmxDr scalemxAr mulmxE exprSr mulrBr mulr1 opprB.
by congr (_ + _ *m _); rewrite addrA [RHS]addrAC.
Qed.

Hypotheses (G_sym : G^T = G) (G_psd : psd G) (eta_gt0 : 0 < eta).
Hypothesis small_step : forall u, eta * dot (u *m G) u <= dot u u.

Let Q_sym : Q^T = Q. Proof. by rewrite linearZ /= G_sym. Qed.
Let P_sym : P^T = P. Proof. by rewrite linearB /= trmx1 Q_sym. Qed.
Let Q_psd : psd Q. Proof. exact/psdZ/G_psd/ltW. Qed.
Let P_psd : psd P.
Proof. by move=> u; rewrite mulmxBr mulmx1 dotBl -scalemxAr dotZl subr_ge0. Qed.
Let PE : 1 - P = Q. Proof. by rewrite opprB addrC subrK. Qed.
Let comm_GP : GRing.comm G P.
Proof. by apply: commrB; [exact: commr1|rewrite /GRing.comm -scalerAr -scalerAl]. Qed.
Let comm_QP : GRing.comm Q P. Proof. exact/commrB/commr_refl/commr1. Qed.

Let Pk_psd k : psd (P ^+ k).
Proof.
rewrite -[P ^+ k]mul1r; apply: psd_power; first exact: P_sym.
- exact/commr_sym/commr1.
- exact: psd1.
- by rewrite mul1r; exact: P_psd.
Qed.

Let QPk_psd k : psd (Q * P ^+ k).
Proof.
apply: psd_power; [exact: P_sym|exact: comm_QP|exact: Q_psd|].
by apply: psd_complement; [exact: Q_sym|exact: Q_psd|exact: P_psd].
Qed.

Let sum_QPk k : \sum_(i < k) Q * P ^+ i = 1 - P ^+ k.
Proof. by rewrite -[RHS]opprB subrX1 -mulNr opprB PE mulr_sumr. Qed.

(** Every displacement from the start, and every single step, is aligned with the way to the target. *)
Lemma follow_aligned k : 0 <= dot (follow k - s) (target - s).
Proof.
rewrite follow_closed addrAC subrr add0r.
by rewrite -sum_QPk mulmx_sumr dot_suml; apply: sumr_ge0 => i _; exact: QPk_psd.
Qed.

Lemma follow_step k : follow k.+1 - follow k = (target - s) *m (Q * P ^+ k).
Proof.
rewrite !follow_closed opprD addrACA subrr add0r -mulmxBr; congr (_ *m _).
by rewrite opprB addrC addrA subrK exprS -{1}[P ^+ k]mul1r -mulrBl PE.
Qed.

Lemma follow_step_aligned k : 0 <= dot (follow k.+1 - follow k) (target - s).
Proof. by rewrite follow_step; exact: QPk_psd. Qed.

(** The products Q P^i decrease in i, and k + 1 of them sum to 1 - P^(k+1), so that (k + 1) Q P^k <= 1. *)
Let QPk_decreasing i k : (i <= k)%N -> psd (Q * P ^+ i - Q * P ^+ k).
Proof.
elim: k => [|k IH]; first by rewrite leqn0 => /eqP-> u; rewrite subrr mulmx0 dot0l.
rewrite leq_eqVlt => /predU1P[->|/IH ik] u; first by rewrite subrr mulmx0 dot0l.
have -> : Q * P ^+ i - Q * P ^+ k.+1 = Q * P ^+ i - Q * P ^+ k + Q * P ^+ k * Q.
  by rewrite -[X in _ = _ + _ * X]PE mulrBr mulr1 addrA subrK -mulrA -exprSr.
by apply: (psdD ik); exact: psd_sandwich Q_sym (Pk_psd k).
Qed.

Let QPk_bound k : psd (1 - k.+1%:R *: (Q * P ^+ k)).
Proof.
have -> : 1 - k.+1%:R *: (Q * P ^+ k) = P ^+ k.+1 + \sum_(i < k.+1) (Q * P ^+ i - Q * P ^+ k).
  by rewrite big_split /= sum_QPk sumrN sumr_const card_ord scaler_nat addrA [X in _ = X - _]addrC subrK.
apply: psdD; first exact: Pk_psd.
move=> u; rewrite mulmx_sumr dot_suml; apply: sumr_ge0 => i _.
by apply: QPk_decreasing; rewrite -ltnS.
Qed.

Let QPk_rate k w : k.+1%:R ^+ 2 * dot (w *m (Q * P ^+ k)) (w *m (Q * P ^+ k)) <= dot w w.
Proof.
set A := k.+1%:R *: (Q * P ^+ k); have A_sym : A^T = A.
  by rewrite linearZ /= -mulmxE trmx_mul Q_sym sym_power ?P_sym// mulmxE -(commrX k comm_QP).
have A_psd : psd A by apply: psdZ (QPk_psd k).
have -> : k.+1%:R ^+ 2 * dot (w *m (Q * P ^+ k)) (w *m (Q * P ^+ k)) = dot (w *m A *m A) w.
  by rewrite [RHS]dot_sym// /A -scalemxAr dotZl dotZr mulrA expr2.
have /(_ w) := psd_complement A_sym A_psd (QPk_bound k).
rewrite mulrBr mulr1 mulmxBr dotBl subr_ge0 -mulmxE mulmxA => /le_trans; apply.
by have := QPk_bound k w; rewrite mulmxBr mulmx1 dotBl subr_ge0.
Qed.

(** ** Where it ends: on the range of G at the target, on its null space where it started *)
Definition follow_limit := s + (target - s) *m projection G.

(** The way that is left after k steps. *)
Lemma follow_left k : follow_limit - follow k = (target - s) *m (projection G * P ^+ k).
Proof.
have PiP : (1 - projection G) * P ^+ k = 1 - projection G.
  elim: k => [|k IH]; first by rewrite mulr1.
  rewrite exprSr mulrA IH mulrBr mulr1 -scalerAr mulrBl mul1r (projectionK G_sym : projection G * G = G).
  by rewrite subrr scaler0 subr0.
rewrite follow_closed /follow_limit opprD addrACA subrr add0r -mulmxBr; congr (_ *m _).
have -> : projection G * P ^+ k = P ^+ k - (1 - projection G).
  by rewrite -[in RHS]PiP mulrBl mul1r opprB [RHS]addrC subrK.
by rewrite !opprB addrCA.
Qed.

(** The distance is at most a constant over k + 1, whatever the eigenvalues of G. *)
Definition rate_constant := eta^-1 *: ((target - s) *m pseudo_inverse G).

Lemma follow_rate k : k.+1%:R ^+ 2 * dot (follow_limit - follow k) (follow_limit - follow k) <=
  dot rate_constant rate_constant.
Proof.
rewrite follow_left; have -> : (target - s) *m (projection G * P ^+ k) = rate_constant *m (Q * P ^+ k).
  rewrite /rate_constant /projection -!mulmxE -scalemxAl -scalemxAl -scalemxAr scalerA mulVf ?gt_eqF//.
  by rewrite scale1r !mulmxA.
exact: QPk_rate.
Qed.

(** Its square falls geometrically if no eigenvalue of G lies between 0 and lambda. *)
Lemma follow_geometric lambda k :
  (forall u, lambda * dot (u *m G) (u *m G) <= dot (u *m G *m G) (u *m G)) -> eta * lambda <= 1 ->
  dot (follow_limit - follow k) (follow_limit - follow k) <=
  (1 - eta * lambda) ^+ k * dot (follow_limit - s) (follow_limit - s).
Proof.
move=> gap le1; elim: k => [|k IH]; first by rewrite mul1r.
rewrite exprS -mulrA; apply: le_trans (ler_wpmul2l _ IH); last by rewrite subr_ge0.
set v := follow_limit - follow k; have -> : follow_limit - follow k.+1 = v *m P.
  by rewrite /v !follow_left exprSr mulrA -mulmxE mulmxA.
have vG : v = (target - s) *m pseudo_inverse G *m P ^+ k *m G.
  by rewrite /v follow_left /projection !mulmxE -mulrA (commrX k comm_GP) -!mulmxE !mulmxA.
have : psd (P * (1 - P)) by apply: psd_complement P_sym P_psd _; rewrite PE; exact: Q_psd.
move=> /(_ v); rewrite mulrBr mulr1 mulmxBr dotBl subr_ge0 -mulmxE mulmxA (dot_sym _ _ P_sym) => /le_trans; apply.
rewrite mulmxBr mulmx1 dotBl -scalemxAr dotZl mulrBl mul1r ler_add2l ler_opp2 -mulrA ler_wpmul2l//.
  exact: ltW.
by rewrite vG.
Qed.

Theorem follow_cvg : follow --> follow_limit.
Proof.
set c := dot rate_constant rate_constant + 1; have c1 : 1 <= c by rewrite ler_addr dotvv_ge0.
have c0 : 0 < c by exact: lt_le_trans c1.
have le k : `|follow_limit - follow k| <= c / k.+1%:R.
  apply: norm_le => [|i]; first by rewrite divr_ge0// ltW.
  rewrite ler_pdivl_mulr// -(@ler_pexpn2r _ 2)// ?nnegrE ?mulr_ge0//; last exact: ltW.
  rewrite exprMn real_normK ?num_real// mulrC (@le_trans _ _ (dot rate_constant rate_constant))//.
    apply: le_trans (follow_rate k); rewrite ler_wpmul2l ?exprn_ge0//.
    exact: sqr_le_dotvv.
  by rewrite (@le_trans _ _ c) ?ler_addl// ler_eexpr.
apply/cvgrPdist_le => e e0; near=> k; rewrite (le_trans (le k))// ler_pdivr_mulr// mulrC -ler_pdivr_mulr//.
rewrite -[_ / _]invrK invf_div -[k.+1%:R]invrK lef_pinv ?posrE ?invr_gt0 ?divr_gt0//.
by apply/ltW; near: k; exact: (near_infty_natSinv_lt (PosNum (divr_gt0 e0 c0))).
Unshelve. all: by end_near. Qed.

Lemma limit_range u : dot follow_limit (u *m G) = dot target (u *m G).
Proof.
apply/eqP; rewrite -subr_eq0 -dotBl dotC dot_sym//.
have -> : (follow_limit - target) *m G = 0.
  rewrite /follow_limit addrAC -opprB mulmxDl mulNmx -[_ *m _ *m G]mulmxA projectionK//.
  by rewrite addrC subrr.
by rewrite dot0r.
Qed.

Lemma follow_null u k : u *m G = 0 -> dot (follow k) u = dot s u.
Proof.
move=> uG; elim: k => [//|k IH]; rewrite /follow iterS -/(follow k) dotDl IH dotZl dot_sym// uG.
by rewrite dot0r mulr0 addr0.
Qed.
End Recursion.

(** ** The linearised student, trained on the linearised teacher's outputs *)
Section LinearisedStudent.
Context {R : realType} {X : finType} {p n : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (c : 'rV[R]_n.+1).
Variables (theta0 dT s : 'rV[R]_p.+1) (eps eta : R).

Local Notation J x := (jacobian (f x) theta0).

Definition linearised x (theta : 'rV[R]_p.+1) : 'rV[R]_n.+1 := f x theta0 + (theta - theta0) *m J x.

Definition linearised_objective := student_objective (weighted w) linearised (squared_error c) theta0 dT eps.
Definition trained k := iter k (fun theta => theta - eta *: grad linearised_objective theta) s.

(** The G of step 4 ([gram_gauss_newton]): the curvature of a squared error is the diagonal matrix of 2 c. *)
Definition gram : 'M[R]_p.+1 := \sum_x w x *: (J x *m diag_mx (2%:R *: c) *m (J x)^T).

Local Notation teacher := (theta0 + eps *: dT).

Lemma linearised_diff x theta theta' : linearised x theta - linearised x theta' = (theta - theta') *m J x.
Proof. by rewrite /linearised opprD addrACA subrr add0r -mulmxBl opprB addrA subrK. Qed.

Let is_diff_squared_error (z y : 'rV[R]_n.+1) :
  is_diff z (squared_error c ^~ y) (dot ((z - y) *m diag_mx (2%:R *: c))).
Proof.
have d i : is_diff z (fun z => (z - y) 0 i) (fun v => v 0 i).
  apply: (is_diff_ext (is_diff_add (is_diff_coord z i) (is_diff_const (- y 0 i) z))) => v; first by rewrite !mxE.
  by rewrite addr0.
have d2 i := is_diff_mull (c 0 i) (is_diff_mul (d i) (d i)).
apply: (is_diff_ext (is_diff_big (index_enum [finType of 'I_n.+1]) d2)) => v; apply: eq_bigr => i _.
  by rewrite expr2 !mxE.
rewrite mul_diag [(_ *: c) 0 i]mxE -mulr2n -mulr_natl !mulrA.
by congr (_ * _); rewrite [LHS]mulrC [c 0 i * _]mulrC mulrA.
Qed.

Lemma gram_gauss_newton : gram = gauss_newton w f (squared_error c) theta0.
Proof.
apply: eq_bigr => x _; congr (_ *: (_ *m _ *m _)); apply: oppr_inj; rewrite opprK; apply/esym/jacobian_is_diff.
set y := f x theta0.
have d := is_diff_add (is_diff_const y y) (is_diff_opp (is_diff_id y)).
apply: (is_diff_ext (is_diff_o d (is_diff_mulmxr (diag_mx (2%:R *: c)) _))) => v.
  by apply/esym/is_diff_grad; exact: is_diff_squared_error.
by rewrite add0r mulNmx mulmxN.
Qed.

Lemma grad_linearised_objective theta : grad linearised_objective theta = (theta - teacher) *m gram.
Proof.
apply: is_diff_grad; have dz x : is_diff theta (linearised x) (mulmx^~ (J x)).
  have d := is_diff_o (is_diff_add (is_diff_id theta) (is_diff_const (- theta0) theta)) (is_diff_mulmxr (J x) _).
  apply: (is_diff_ext (is_diff_add (is_diff_const (f x theta0) theta) d)) => v //.
  by rewrite /= addr0 add0r.
have d x := is_diff_mull (w x) (is_diff_o (dz x) (is_diff_squared_error (linearised x theta) (linearised x teacher))).
apply: (is_diff_ext (is_diff_big (index_enum X) d)) => // v.
rewrite /gram mulmx_sumr dot_suml; apply: eq_bigr => x _.
by rewrite -scalemxAr dotZl !mulmxA [in RHS]dot_mul trmxK linearised_diff.
Qed.

Lemma trainedE k : trained k = follow gram eta teacher s k.
Proof.
elim: k => [//|k IH]; rewrite /trained iterS -/(trained k) IH grad_linearised_objective /follow iterS.
by rewrite -scalerN -mulNmx opprB.
Qed.

Lemma gram_sym : gram^T = gram.
Proof.
rewrite /gram linear_sum; apply: eq_bigr => x _.
by rewrite linearZ /= !trmx_mul trmxK tr_diag_mx mulmxA.
Qed.

Lemma gramE u : dot (u *m gram) u = \sum_x w x * \sum_i 2%:R * c 0 i * ((u *m J x) 0 i) ^+ 2.
Proof.
rewrite /gram mulmx_sumr dot_suml; apply: eq_bigr => x _.
rewrite -scalemxAr dotZl !mulmxA [in LHS]dot_mul trmxK; congr (_ * _); apply: eq_bigr => i _.
by rewrite mul_diag [(_ *: c) 0 i]mxE expr2 [LHS]mulrAC [LHS]mulrC.
Qed.

Hypotheses (w_ge0 : forall x, 0 <= w x) (c_ge0 : forall i, 0 <= c 0 i).

Lemma gram_psd : psd gram.
Proof.
move=> u; rewrite gramE; apply: sumr_ge0 => x _; rewrite mulr_ge0//.
by apply: sumr_ge0 => i _; rewrite mulr_ge0 ?sqr_ge0// mulr_ge0.
Qed.

(** *** Fact 11 *)
Hypotheses (eta_gt0 : 0 < eta) (small_step : forall u, eta * dot (u *m gram) u <= dot u u).

Theorem fact11_closed_form k : trained k = s + (teacher - s) *m (1 - (1 - eta *: gram) ^+ k).
Proof. by rewrite trainedE follow_closed. Qed.

(** From any start: neither the whole displacement nor any single step points against the way to the teacher. *)
Theorem fact11_aligned k :
  0 <= dot (trained k - s) (teacher - s) /\ 0 <= dot (trained k.+1 - trained k) (teacher - s).
Proof.
rewrite !trainedE; have psdG := gram_psd.
by split; [apply: follow_aligned|apply: follow_step_aligned] => //; exact: gram_sym.
Qed.

(** From the teacher's own start: never against the teacher's step, however long the training. *)
Theorem fact11_shared_start k : s = theta0 -> 0 < eps ->
  0 <= dot (trained k - theta0) dT /\ 0 <= dot (trained k.+1 - trained k) dT.
Proof.
move=> st0 eps0; have [] := fact11_aligned k; rewrite st0 [_ + _ - _]addrAC subrr add0r.
by rewrite !dotZr !pmulr_rge0.
Qed.

(** Where training ends: the projection of the teacher on the range of G, and of the start on the null space. *)
Definition trained_limit := s + (teacher - s) *m projection gram.

Theorem fact11_limit : trained --> trained_limit.
Proof.
rewrite (_ : trained = follow gram eta teacher s); last by apply/funext => k; exact: trainedE.
by apply: follow_cvg => //; [exact: gram_sym|exact: gram_psd].
Qed.

(** Its distance to the limit is at most a constant over the number of steps, whatever the eigenvalues of G, and falls
    geometrically where none lies between 0 and lambda. *)
Theorem fact11_rate k : k.+1%:R ^+ 2 * dot (trained_limit - trained k) (trained_limit - trained k) <=
  dot (rate_constant gram eta teacher s) (rate_constant gram eta teacher s).
Proof. by rewrite trainedE; apply: follow_rate => //; [exact: gram_sym|exact: gram_psd]. Qed.

Theorem fact11_geometric lambda k :
  (forall u, lambda * dot (u *m gram) (u *m gram) <= dot (u *m gram *m gram) (u *m gram)) -> eta * lambda <= 1 ->
  dot (trained_limit - trained k) (trained_limit - trained k) <=
  (1 - eta * lambda) ^+ k * dot (trained_limit - s) (trained_limit - s).
Proof. by rewrite trainedE; apply: follow_geometric => //; [exact: gram_sym|exact: gram_psd]. Qed.

(** On the range of G the student ends equal to the teacher, whatever its start; on the null space it keeps its own
    start at every step. *)
Theorem fact11_range u : dot trained_limit (u *m gram) = dot teacher (u *m gram).
Proof. by apply: limit_range; exact: gram_sym. Qed.

Theorem fact11_null u k : u *m gram = 0 -> dot (trained k) u = dot s u.
Proof. by rewrite trainedE; apply: follow_null; exact: gram_sym. Qed.

(** So it ends with the teacher's outputs on every input that it was trained on. *)
Theorem fact11_outputs x : (forall i, 0 < c 0 i) -> 0 < w x -> linearised x trained_limit = linearised x teacher.
Proof.
move=> c_gt0 wx; apply/eqP; rewrite -subr_eq0 linearised_diff; set v := trained_limit - teacher.
have : dot (v *m gram) v = 0 by rewrite dot_sym ?gram_sym// dotBl fact11_range subrr.
rewrite gramE => /eqP; rewrite psumr_eq0 => [|y _]; last first.
  by rewrite mulr_ge0// sumr_ge0// => i _; rewrite mulr_ge0 ?sqr_ge0// mulr_ge0.
move=> /allP /(_ x (mem_index_enum x)) /=; rewrite mulf_eq0 gt_eqF//=.
rewrite psumr_eq0 => [/allP vJ0|i _]; last by rewrite mulr_ge0 ?sqr_ge0// mulr_ge0.
apply/eqP/rowP => i; have := vJ0 i (mem_index_enum i).
by rewrite mulf_eq0 gt_eqF ?mulr_gt0//= sqrf_eq0 => /eqP->; rewrite mxE.
Qed.

End LinearisedStudent.

(** *** Fact 13: where a start of its own matters *)
Section AnyStart.
Context {R : realType} {X : finType} {p n : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (c : 'rV[R]_n.+1).
Variables (theta0 dT : 'rV[R]_p.+1) (eps : R).

Local Notation ends s := (trained_limit w f c theta0 dT s eps).
Local Notation G := (gram w f c theta0).
Local Notation teacher := (theta0 + eps *: dT).

(** Two starts end apart by what they are apart in the null space of G. *)
Theorem fact13_two_starts s s' : ends s - ends s' = (s - s') *m (1 - projection G).
Proof.
rewrite /trained_limit opprD addrACA -mulmxBl mulmxBr mulmx1 -mulNmx; congr (_ + _ *m _).
by rewrite !opprB addrC addrA subrK.
Qed.

(** The student ends at the teacher if and only if its way there has no part in the null space. *)
Theorem fact13_reaches s : ends s = teacher <-> (teacher - s) *m (1 - projection G) = 0.
Proof.
have -> : (teacher - s) *m (1 - projection G) = teacher - ends s.
  by rewrite mulmxBr mulmx1 /trained_limit opprD addrA.
by split=> [->|/eqP]; rewrite ?subrr// subr_eq0 => /eqP.
Qed.

(** Where G has full rank no start matters. *)
Theorem fact13_full_rank s : G \in unitmx -> ends s = teacher.
Proof.
move=> unitG; apply/fact13_reaches; suff -> : projection G = 1 by rewrite subrr mulmx0.
by rewrite -[LHS]mulmx1 -(mulmxV unitG) mulmxA projectionK ?gram_sym// mulmxV.
Qed.

End AnyStart.
