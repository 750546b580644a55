(** Losses that serve, each with its gradient, its curvature and a bound on the growth of its gradient: squared error,
    Huber and log-cosh as sums over the residuals [z i - y i]; cross-entropy and KL of a softmax; each of these on
    chosen outputs alone or at a temperature. Neither branch of Theorem 1 is empty. *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From mathcomp.analysis Require Import sequences exp.
From Subliminal Require Import statement calculus curvature lemma1 losses.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** The exponential lies above its tangent at 0, on both sides of it. *)
Lemma expR_ge1D (R : realType) (x : R) : 1 + x <= expR x.
Proof.
have [x0|x0] := leP 0 x; first exact: expR_ge1Dx.
have d (s : R) : is_derive s (1 : R) (fun s => expR (s * x)) (x * expR (s * x)).
  apply: is_diff_is_derive.
  apply: (is_diff_ext (is_diff_o (is_diff_Zl (x : R^o) (is_diff_id s)) (is_diff_real (is_derive_expR _)))) => // h.
  by rewrite -mulrA.
have [s [s0 s1]] := mean_value ltr01 (fun s _ _ => d s); rewrite mul1r mul0r expR0 mulr1 => xE.
rewrite -ler_subr_addl xE -[leLHS]mulr1 ler_nmul2l//; apply/ltW.
by rewrite expR_lt1 pmulr_rlt0.
Qed.

(** ** Losses of the residuals: [sum_i c_i * psi (z_i - y_i)] *)
Section Residuals.
Context {R : realType} {n : nat}.
Implicit Types z y u : 'rV[R]_n.+1.
Variables (c : 'rV[R]_n.+1) (psi dpsi : R -> R) (m : R).
Hypothesis psi_dpsi : forall r, is_derive r (1 : R) psi (dpsi r).
Hypothesis dpsi_m : is_derive (0 : R) (1 : R) dpsi m.

Definition residual_loss z y : R := \sum_i c 0 i * psi (z 0 i - y 0 i).
Definition residual_gradient z y : 'rV[R]_n.+1 := \row_i (c 0 i * dpsi (z 0 i - y 0 i)).
Definition residual_curvature : 'M[R]_n.+1 := diag_mx (m *: c).

Lemma is_diff_residual_loss z y : is_diff z (residual_loss ^~ y) (dot (residual_gradient z y)).
Proof.
have h i : is_diff z (fun z : 'rV[R]_n.+1 => c 0 i * psi (z 0 i - y 0 i))
    (fun u => c 0 i * (u 0 i * dpsi (z 0 i - y 0 i))).
  have d := is_diff_add (is_diff_coord z i) (is_diff_const (- y 0 i : R) z).
  apply: (is_diff_ext (is_diff_mull (c 0 i) (is_diff_o d (is_diff_real (psi_dpsi _))))) => // u.
  by rewrite addr0.
apply: (is_diff_ext (is_diff_big (index_enum [finType of 'I_n.+1]) h)) => // u.
by apply: eq_bigr => i _; rewrite mxE mulrCA mulrC.
Qed.

Lemma is_diff_residual_gradient y : is_diff (y, y)
  (fun zy => residual_gradient zy.1 zy.2) (fun uv => (uv.1 - uv.2) *m residual_curvature).
Proof.
apply: is_diff_row => i.
have d1 := is_diff_o (is_diff_fst (y, y)) (is_diff_coord y i).
have d2 := is_diff_o (is_diff_snd (y, y)) (is_diff_coord y i).
have d := is_diff_at (is_diff_add d1 (is_diff_opp d2)) (subrr (y 0 i)) (is_diff_real dpsi_m).
apply: (is_diff_ext (is_diff_mull (c 0 i) d)) => -[u v] /=; first by rewrite mxE.
by rewrite mul_diag !mxE mulrCA [c 0 i * m]mulrC.
Qed.

Lemma loss_gradient_residual : loss_gradient residual_loss = residual_gradient.
Proof. exact: (loss_gradientE is_diff_residual_loss). Qed.

Lemma curvature_residual z : curvature residual_loss z = residual_curvature.
Proof. exact: (curvature_joint is_diff_residual_loss is_diff_residual_gradient). Qed.

(** It serves if psi is least at 0, with a second derivative there that is not 0. *)
Theorem residual_loss_serves : (forall i, 0 <= c 0 i) -> (forall r, psi 0 <= psi r) -> m != 0 ->
  imitation_loss residual_loss.
Proof.
move=> c0 psi0 m0.
apply: (imitation_lossI is_diff_residual_loss is_diff_residual_gradient) => [y|z y u uM].
  apply: everywhere_near => z; apply: ler_sum => i _.
  by rewrite subrr ler_wpmul2l.
rewrite /dot big1// => i _; have /rowP/(_ i)/eqP := uM.
rewrite mul_diag !mxE !mulf_eq0 (negPf m0)/= => /orP[/eqP->|/eqP->]; first by rewrite mulr0.
by rewrite !mul0r.
Qed.

Lemma residual_linear_growth K : (forall r, `|dpsi r| <= K * `|r|) ->
  exists C, forall z y, `|loss_gradient residual_loss z y| <= C * `|z - y|.
Proof.
move=> growth; have K0 : 0 <= K by have := growth 1; rewrite normr1 mulr1; exact: le_trans.
exists (`|c| * K) => z y; rewrite loss_gradient_residual; apply: norm_le => [|i].
  by rewrite !mulr_ge0.
rewrite mxE normrM -mulrA ler_pmul ?norm_coord// (le_trans (growth _))// ler_wpmul2l//.
by have := norm_coord (z - y) i; rewrite !mxE.
Qed.

End Residuals.

(** *** Squared error *)
Section SquaredError.
Context {R : realType} {n : nat}.
Variable c : 'rV[R]_n.+1.

Lemma is_derive_square (r : R) : is_derive r (1 : R) (fun r => r ^+ 2) (2%:R * r).
Proof.
apply: is_diff_is_derive.
by apply: (is_diff_ext (is_diff_mul (is_diff_id r) (is_diff_id r))) => h; rewrite ?expr2//=; ring.
Qed.

Lemma is_derive_double (r : R) : is_derive r (1 : R) ( *%R 2%:R) 2%:R.
Proof.
apply: is_diff_is_derive; apply: (is_diff_ext (is_diff_mull 2%:R (is_diff_id r))) => // h.
by rewrite mulrC.
Qed.

Lemma loss_gradient_squared_error z y :
  loss_gradient (squared_error c) z y = \row_i (c 0 i * (2%:R * (z 0 i - y 0 i))).
Proof. by rewrite (loss_gradient_residual c is_derive_square). Qed.

Lemma curvature_squared_error z : curvature (squared_error c) z = diag_mx (2%:R *: c).
Proof. exact: (curvature_residual c is_derive_square (is_derive_double 0)). Qed.

Lemma squared_error_linear_growth :
  exists C, forall z y, `|loss_gradient (squared_error c) z y| <= C * `|z - y|.
Proof.
by apply: (residual_linear_growth c is_derive_square (K := 2%:R)) => r; rewrite normrM gtr0_norm.
Qed.
End SquaredError.

Theorem squared_error_serves : Squared_error_serves.
Proof.
move=> R n c c0; apply: (residual_loss_serves is_derive_square (is_derive_double 0) c0) => [r|].
  by rewrite expr0n/= sqr_ge0.
by rewrite pnatr_eq0.
Qed.

(** *** Huber: half the square of a residual up to delta, beyond it the tangent *)
Section Huber.
Context {R : realType} {n : nat}.
Variables (c : 'rV[R]_n.+1) (delta : R).
Hypothesis delta_gt0 : 0 < delta.

Definition clip (r : R) : R := if r < - delta then - delta else if delta < r then delta else r.
Definition huber (r : R) : R := if `|r| <= delta then r ^+ 2 / 2%:R else delta * (`|r| - delta / 2%:R).

(** Huber is the largest of the tangents [s * r - s ^+ 2 / 2], at [s = clip r]. *)
Lemma clip_bound r : `|clip r| <= delta.
Proof.
rewrite /clip ler_norml; case: ltP => [_|r1]; first by rewrite lexx ge0_cp// ltW.
by case: ltP => r2; rewrite ?lexx ?andbT// ?r1// (le_trans _ (ltW delta_gt0))// oppr_le0 ltW.
Qed.

Lemma huberE r : huber r = clip r * r - clip r ^+ 2 / 2%:R.
Proof.
rewrite /huber /clip ler_norml; case: (ltP r (- delta)) => [r1|r1] /=.
  by rewrite ltr0_norm; [field|rewrite (lt_trans r1)// oppr_lt0].
case: (ltP delta r) => r2; last by field.
by rewrite gtr0_norm; [field|exact: lt_trans r2].
Qed.

Lemma huber_tangent r s : `|s| <= delta -> s * r - s ^+ 2 / 2%:R <= huber r.
Proof.
rewrite huberE ler_norml => /andP[s1 s2]; rewrite -subr_ge0 /clip.
case: ltP => r1; [|case: ltP => r2].
- have -> : - delta * r - (- delta) ^+ 2 / 2%:R - (s * r - s ^+ 2 / 2%:R) =
    (delta + s) * ((- delta - r) + (delta + s) / 2%:R) by field.
  have ds : 0 <= delta + s by rewrite addrC -ler_subl_addr sub0r.
  by rewrite mulr_ge0// addr_ge0//; [rewrite subr_ge0 ltW|exact: divr_ge0].
- have -> : delta * r - delta ^+ 2 / 2%:R - (s * r - s ^+ 2 / 2%:R) =
    (delta - s) * ((r - delta) + (delta - s) / 2%:R) by field.
  have ds : 0 <= delta - s by rewrite subr_ge0.
  by rewrite mulr_ge0// addr_ge0//; [rewrite subr_ge0 ltW|exact: divr_ge0].
- have -> : r * r - r ^+ 2 / 2%:R - (s * r - s ^+ 2 / 2%:R) = (r - s) ^+ 2 / 2%:R by field.
  by rewrite divr_ge0// sqr_ge0.
Qed.

(** The clip is the nearest point of the interval, and therefore moves no further than its argument. *)
Lemma clip_nearest r s : `|s| <= delta -> (r - clip r) * (s - clip r) <= 0.
Proof.
rewrite ler_norml => /andP[s1 s2]; rewrite /clip; case: ltP => r1; [|case: ltP => r2].
- by apply: mulr_le0_ge0; rewrite ?subr_ge0// subr_le0 ltW.
- by apply: mulr_ge0_le0; rewrite ?subr_le0// subr_ge0 ltW.
- by rewrite subrr mul0r.
Qed.

Lemma clip_lipschitz a b : `|clip a - clip b| <= `|a - b|.
Proof.
set x := clip a - clip b; set d := a - b; have xd : x ^+ 2 <= d * x.
  rewrite -subr_le0.
  have -> : x ^+ 2 - d * x = (a - clip a) * (clip b - clip a) + (b - clip b) * (clip a - clip b).
    by rewrite /x /d; ring.
  by rewrite -[leRHS]addr0 ler_add// clip_nearest// clip_bound.
have [->|x0] := eqVneq x 0; first by rewrite normr0.
rewrite -(@ler_pmul2r _ `|x|) ?normr_gt0// -normrM -expr2 normrX real_normK ?num_real//.
by rewrite (le_trans xd)// (le_trans (ler_norm _))// normrM.
Qed.

Lemma clip0 : clip 0 = 0.
Proof. by rewrite /clip oppr_gt0 !ltNge !ltW. Qed.

Lemma is_derive_huber (r : R) : is_derive r (1 : R) huber (clip r).
Proof.
apply: (is_derive_bound (K := 1)) => h; rewrite mul1r.
have low := huber_tangent (r + h) (clip_bound r); have high := huber_tangent r (clip_bound (r + h)).
rewrite ger0_norm.
  apply: (@le_trans _ _ (h * (clip (r + h) - clip r))).
    rewrite mulrBr ler_add2r ler_subl_addr; apply: le_trans (ler_add (lexx _) high).
    by rewrite huberE le_eqVlt; apply/orP; left; apply/eqP; field.
  rewrite (le_trans (ler_norm _))// normrM -[in leRHS]real_normK ?num_real// expr2 ler_wpmul2l//.
  by have := clip_lipschitz (r + h) r; rewrite [r + h - r]addrAC subrr add0r.
rewrite subr_ge0 ler_subr_addr; apply: le_trans low.
by rewrite huberE le_eqVlt; apply/orP; left; apply/eqP; field.
Qed.

Lemma is_derive_clip : is_derive (0 : R) (1 : R) clip 1.
Proof.
apply: (is_derive_bound (K := delta^-1)) => h; rewrite add0r clip0 subr0 mulr1.
have [hd|hd] := leP `|h| delta.
  have -> : clip h = h.
    by move: hd; rewrite ler_norml => /andP[h1 h2]; rewrite /clip !ltNge h1 h2.
  by rewrite subrr normr0 mulr_ge0// ?sqr_ge0// invr_ge0 ltW.
rewrite mulrC ler_pdivl_mulr//.
have : `|clip h - h| <= `|h|.
  have := clip_nearest h (s := 0); rewrite normr0 ltW// sub0r => /(_ isT); rewrite mulrN oppr_le0 => ch.
  rewrite -ler_sqr ?nnegrE// !real_normK ?num_real// -subr_ge0.
  have -> : h ^+ 2 - (clip h - h) ^+ 2 = clip h ^+ 2 + 2%:R * ((h - clip h) * clip h) by ring.
  by rewrite addr_ge0 ?sqr_ge0// mulr_ge0.
move=> /le_trans ch; apply: le_trans (ler_pmul _ _ (ch _ (lexx _)) (ltW hd)) _ => //; first exact: ltW.
by rewrite -normrM ger0_norm ?expr2// -expr2 sqr_ge0.
Qed.

Local Notation huber_loss := (residual_loss c huber).

Lemma loss_gradient_huber z y : loss_gradient huber_loss z y = \row_i (c 0 i * clip (z 0 i - y 0 i)).
Proof. by rewrite (loss_gradient_residual c is_derive_huber). Qed.

Lemma curvature_huber z : curvature huber_loss z = diag_mx c.
Proof. by rewrite (curvature_residual c is_derive_huber is_derive_clip) /residual_curvature scale1r. Qed.

Lemma huber_linear_growth : exists C, forall z y, `|loss_gradient huber_loss z y| <= C * `|z - y|.
Proof.
apply: (residual_linear_growth c is_derive_huber (K := 1)) => r; rewrite mul1r.
by have := clip_lipschitz r 0; rewrite clip0 !subr0.
Qed.

Theorem huber_serves : (forall i, 0 <= c 0 i) -> imitation_loss huber_loss.
Proof.
move=> c0; apply: (residual_loss_serves is_derive_huber is_derive_clip c0) => [r|]; last exact: oner_neq0.
have := @huber_tangent r 0; rewrite normr0 ltW// => /(_ isT).
by rewrite [huber 0]huberE clip0 expr0n/= !mul0r subrr.
Qed.
End Huber.

(** *** Log-cosh *)
Section LogCosh.
Context {R : realType} {n : nat}.
Variable c : 'rV[R]_n.+1.
Implicit Type r : R.

Definition two_cosh r : R := expR r + expR (- r).
Definition two_sinh r : R := expR r - expR (- r).
Definition tanh r : R := two_sinh r / two_cosh r.
Definition log_cosh r : R := ln (two_cosh r / 2%:R).

Lemma two_cosh_ge2 r : 2%:R <= two_cosh r.
Proof.
apply: le_trans (ler_add (expR_ge1D r) (expR_ge1D (- r))).
by rewrite addrACA subrr addr0.
Qed.

Lemma two_cosh_gt0 r : 0 < two_cosh r.
Proof. by rewrite addr_gt0// expR_gt0. Qed.

Lemma is_diff_expRN r : is_diff r (fun r => expR (- r)) (fun h => - (h * expR (- r))).
Proof.
have d := is_diff_o (is_diff_opp (is_diff_id r)) (is_diff_real (is_derive_expR (- r))).
by apply: (is_diff_ext d) => // h; rewrite mulNr.
Qed.

Lemma is_diff_two_cosh r : is_diff r two_cosh (fun h => h * two_sinh r).
Proof.
have d := is_diff_add (is_diff_real (is_derive_expR r)) (is_diff_expRN r).
by apply: (is_diff_ext d) => // h; rewrite -mulrBr.
Qed.

Lemma is_diff_two_sinh r : is_diff r two_sinh (fun h => h * two_cosh r).
Proof.
have d := is_diff_add (is_diff_real (is_derive_expR r)) (is_diff_opp (is_diff_expRN r)).
by apply: (is_diff_ext d) => // h; rewrite opprK -mulrDr.
Qed.

Lemma is_diff_ln_two_cosh r : is_diff r (fun r => ln (two_cosh r)) (fun h => h * tanh r).
Proof.
have d := is_diff_o (is_diff_two_cosh r) (is_diff_real (is_derive1_ln (two_cosh_gt0 r))).
by apply: (is_diff_ext d) => // h; rewrite -mulrA.
Qed.

Lemma is_derive_log_cosh r : is_derive r (1 : R) log_cosh (tanh r).
Proof.
apply: is_diff_is_derive.
have d := is_diff_add (is_diff_ln_two_cosh r) (is_diff_const (- ln 2%:R : R) r).
apply: (is_diff_ext d) => h; last by rewrite addr0.
by rewrite /log_cosh ln_div ?posrE ?two_cosh_gt0.
Qed.

Lemma is_derive_tanh r : is_derive r (1 : R) tanh (1 - tanh r ^+ 2).
Proof.
apply: is_diff_is_derive.
have inv s : expR (- ln (two_cosh s)) = (two_cosh s)^-1 by rewrite expRN lnK// posrE two_cosh_gt0.
have d := is_diff_o (is_diff_opp (is_diff_ln_two_cosh r)) (is_diff_real (is_derive_expR _)).
apply: (is_diff_ext (is_diff_mul (is_diff_two_sinh r) d)) => h; rewrite inv// /tanh.
by field; rewrite gt_eqF// two_cosh_gt0.
Qed.

Lemma two_sinh_le r : `|two_sinh r| <= two_cosh r.
Proof.
rewrite ler_norml /two_sinh /two_cosh; have e1 := expR_gt0 r; have e2 := expR_gt0 (- r).
by rewrite opprD ler_add2r ler_add2l (le_trans _ (ltW e1)) ?oppr_le0 ?ltW//= (lt_trans _ e2)// oppr_lt0.
Qed.

Lemma tanhN r : tanh (- r) = - tanh r.
Proof. by rewrite /tanh /two_sinh /two_cosh opprK -mulNr opprB [expR (- r) + expR r]addrC. Qed.

Lemma tanh_growth r : `|tanh r| <= `|r|.
Proof.
have T0 : tanh 0 = 0 by rewrite /tanh /two_sinh oppr0 subrr mul0r.
have slope s : 0 <= 1 - tanh s ^+ 2 <= 1.
  rewrite subr_ge0 ger_addl oppr_le0 sqr_ge0 andbT -real_normK ?num_real// expr_le1//.
  by rewrite normrM normfV (gtr0_norm (two_cosh_gt0 s)) ler_pdivr_mulr ?two_cosh_gt0// mul1r two_sinh_le.
have up t : 0 < t -> `|tanh t| <= t.
  move=> t0; have [s [_ _]] := mean_value t0 (fun s _ _ => is_derive_tanh s).
  rewrite T0 subr0 => ->; have /andP[s0 s1] := slope s.
  by rewrite ger0_norm; [rewrite ler_pimull// ltW|rewrite mulr_ge0// ltW].
have [r0|r0|->] := ltgtP r 0; last by rewrite T0 normr0.
  by have := up (- r); rewrite oppr_gt0 tanhN normrN (ltr0_norm r0) => /(_ r0).
by rewrite (gtr0_norm r0) up.
Qed.

Local Notation log_cosh_loss := (residual_loss c log_cosh).

Lemma tanh0_slope : is_derive (0 : R) (1 : R) tanh 1.
Proof.
have := is_derive_tanh 0; rewrite [tanh 0]/tanh /two_sinh oppr0 subrr mul0r.
by rewrite expr0n subr0.
Qed.

Lemma loss_gradient_log_cosh z y : loss_gradient log_cosh_loss z y = \row_i (c 0 i * tanh (z 0 i - y 0 i)).
Proof. by rewrite (loss_gradient_residual c is_derive_log_cosh). Qed.

Lemma curvature_log_cosh z : curvature log_cosh_loss z = diag_mx c.
Proof. by rewrite (curvature_residual c is_derive_log_cosh tanh0_slope) /residual_curvature scale1r. Qed.

Lemma log_cosh_linear_growth : exists C, forall z y, `|loss_gradient log_cosh_loss z y| <= C * `|z - y|.
Proof.
apply: (residual_linear_growth c is_derive_log_cosh (K := 1)) => r.
by rewrite mul1r tanh_growth.
Qed.

Theorem log_cosh_serves : (forall i, 0 <= c 0 i) -> imitation_loss log_cosh_loss.
Proof.
move=> c0; apply: (residual_loss_serves is_derive_log_cosh tanh0_slope c0) => [r|]; last exact: oner_neq0.
rewrite /log_cosh {1}/two_cosh oppr0 expR0 divff ?ln1 ?pnatr_eq0//.
by rewrite ln_ge0// ler_pdivl_mulr// mul1r two_cosh_ge2.
Qed.
End LogCosh.

(** ** Softmax losses *)
Section Softmax.
Context {R : realType} {n : nat}.
Implicit Types z y u : 'rV[R]_n.+1.

Definition partition z : R := \sum_i expR (z 0 i).
Definition softmax_curvature z : 'M[R]_n.+1 := diag_mx (softmax z) - (softmax z)^T *m softmax z.

Lemma partition_gt0 z : 0 < partition z.
Proof.
rewrite /partition big_ord_recl ltr_paddr ?expR_gt0//.
by apply: sumr_ge0 => i _; rewrite ltW// expR_gt0.
Qed.

Lemma softmax_gt0 z i : 0 < softmax z 0 i.
Proof. by rewrite mxE divr_gt0 ?expR_gt0 ?partition_gt0. Qed.

Lemma sum_softmax z : \sum_i softmax z 0 i = 1.
Proof.
under eq_bigr do rewrite mxE.
by rewrite -mulr_suml -/(partition z) divff// gt_eqF// partition_gt0.
Qed.

Lemma softmax_le1 z i : softmax z 0 i <= 1.
Proof.
rewrite -(sum_softmax z) (bigD1 i)//= ler_addl; apply: sumr_ge0 => j _.
exact/ltW/softmax_gt0.
Qed.

Lemma ln_softmax z i : ln (softmax z 0 i) = z 0 i - ln (partition z).
Proof. by rewrite mxE -/(partition z) ln_div ?expK// posrE ?expR_gt0 ?partition_gt0. Qed.

Lemma softmaxE z i : softmax z 0 i = expR (z 0 i - ln (partition z)).
Proof. by rewrite -ln_softmax lnK// posrE softmax_gt0. Qed.

(** The gradient of log-sum-exp is the softmax. *)
Lemma is_diff_lse z : is_diff z (fun z => ln (partition z)) (dot (softmax z)).
Proof.
have h i : is_diff z (fun z : 'rV[R]_n.+1 => expR (z 0 i)) (fun u => u 0 i * expR (z 0 i)).
  exact: (is_diff_o (is_diff_coord z i) (is_diff_real (is_derive_expR _))).
have dP := is_diff_big (index_enum [finType of 'I_n.+1]) h.
have dln := is_diff_real (is_derive1_ln (partition_gt0 z)).
apply: (is_diff_ext (is_diff_o dP dln)) => // u.
by rewrite mulr_suml; apply: eq_bigr => i _; rewrite [softmax z 0 i]mxE [RHS]mulrC mulrA.
Qed.

Lemma mul_softmax_curvature z u i :
  (u *m softmax_curvature z) 0 i = softmax z 0 i * (u 0 i - dot (softmax z) u).
Proof.
have outer : (u *m ((softmax z)^T *m softmax z)) 0 i = dot u (softmax z) * softmax z 0 i.
  by rewrite mulmxA mxE big_ord1; congr (_ * _); rewrite mxE; apply: eq_bigr => j _; rewrite !mxE.
rewrite /softmax_curvature mulmxBr [LHS]mxE [X in _ + X]mxE mul_diag outer dotC mulrBr.
by rewrite mulrC [in X in _ - X]mulrC.
Qed.

(** The derivative of the softmax. *)
Lemma is_diff_softmax z : is_diff z softmax (mulmx^~ (softmax_curvature z)).
Proof.
apply: is_diff_row => i.
have d1 := is_diff_add (is_diff_coord z i) (is_diff_opp (is_diff_lse z)).
have d2 := is_diff_o d1 (is_diff_real (is_derive_expR _)).
apply: (is_diff_ext d2) => u; first by rewrite softmaxE.
by rewrite mul_softmax_curvature -softmaxE mulrC.
Qed.

Lemma dot_softmax_const z c : dot (softmax z) (const_mx c) = c.
Proof.
rewrite /dot; under eq_bigr do rewrite [const_mx _ _ _]mxE.
by rewrite -mulr_suml sum_softmax mul1r.
Qed.

(** The curvature's null space: the vectors with equal entries. *)
Theorem softmax_null z u : u *m softmax_curvature z = 0 <-> exists c, u = const_mx c.
Proof.
split=> [uM|[c ->]]; last first.
  by apply/rowP => i; rewrite mul_softmax_curvature dot_softmax_const !mxE subrr mulr0.
exists (dot (softmax z) u); apply/rowP => i; rewrite [RHS]mxE.
have /rowP/(_ i) := uM; rewrite mul_softmax_curvature [X in _ = X]mxE => /eqP.
by rewrite mulf_eq0 gt_eqF ?softmax_gt0//= subr_eq0 => /eqP.
Qed.

Lemma is_diff_cross_entropy z y : is_diff z (cross_entropy ^~ y) (dot (softmax z - softmax y)).
Proof.
have CE z' : cross_entropy z' y = ln (partition z') - dot (softmax y) z'.
  rewrite /cross_entropy; under eq_bigr do rewrite ln_softmax mulrBr.
  rewrite big_split/= sumrN -mulr_suml sum_softmax mul1r -/(dot _ _).
  by rewrite opprD opprK addrC.
have d := is_diff_add (is_diff_lse z) (is_diff_opp (is_diff_dotl (softmax y) z)).
by apply: (is_diff_ext d) => u; rewrite ?CE ?dotDl ?dotNl dotC// [in X in - X]dotC.
Qed.

Lemma is_diff_softmax_joint y : is_diff (y, y)
  (fun zy => softmax zy.1 - softmax zy.2) (fun uv => (uv.1 - uv.2) *m softmax_curvature y).
Proof.
have d1 := is_diff_o (is_diff_fst (y, y)) (is_diff_softmax y).
have d2 := is_diff_o (is_diff_snd (y, y)) (is_diff_softmax y).
by apply: (is_diff_ext (is_diff_add d1 (is_diff_opp d2))) => // u; rewrite /= mulmxBl.
Qed.

Lemma loss_gradient_cross_entropy z y : loss_gradient cross_entropy z y = softmax z - softmax y.
Proof. by rewrite (loss_gradientE is_diff_cross_entropy). Qed.

Lemma curvature_cross_entropy z :
  curvature cross_entropy z = diag_mx (softmax z) - (softmax z)^T *m softmax z.
Proof. exact: (curvature_joint is_diff_cross_entropy is_diff_softmax_joint). Qed.

(** Gibbs' inequality. *)
Lemma cross_entropy_minimum z y : cross_entropy y y <= cross_entropy z y.
Proof.
rewrite /cross_entropy ler_opp2 -subr_le0 -sumrB.
have zero : \sum_i (softmax z 0 i - softmax y 0 i) = 0 by rewrite sumrB !sum_softmax subrr.
rewrite -[leRHS]zero.
apply: ler_sum => i _; rewrite -mulrBr ler_subr_addl mulrC.
have := expR_ge1D (ln (softmax z 0 i) - ln (softmax y 0 i)).
by rewrite expRB !lnK ?posrE ?softmax_gt0// ler_pdivl_mulr ?softmax_gt0// mulrDl mul1r.
Qed.

Lemma cross_entropy_serves : imitation_loss (@cross_entropy R n).
Proof.
apply: (imitation_lossI is_diff_cross_entropy is_diff_softmax_joint) => [y|z y u].
  by apply: everywhere_near => z; exact: cross_entropy_minimum.
by move=> /softmax_null[c ->]; rewrite dotBl !dot_softmax_const subrr.
Qed.

(** KL is the cross-entropy and a term of the label alone. *)
Lemma klE : @kl R n = fun z y => cross_entropy z y + \sum_i softmax y 0 i * ln (softmax y 0 i).
Proof.
apply/funext => z; apply/funext => y; rewrite /cross_entropy -sumrN -big_split/=.
by apply: eq_bigr => i _; rewrite mulrBr addrC.
Qed.

Lemma kl_serves : imitation_loss (@kl R n).
Proof. by rewrite klE; apply: label_term_serves; exact: cross_entropy_serves. Qed.

Lemma loss_gradient_kl z y : loss_gradient kl z y = softmax z - softmax y.
Proof. by rewrite klE (loss_gradient_label_term _ cross_entropy_serves) loss_gradient_cross_entropy. Qed.

Lemma curvature_kl z : curvature kl z = diag_mx (softmax z) - (softmax z)^T *m softmax z.
Proof. by rewrite klE (curvature_label_term _ cross_entropy_serves) curvature_cross_entropy. Qed.

(** The softmax is Lipschitz, by the mean value theorem on each entry. *)
Lemma softmax_lipschitz z y : `|softmax z - softmax y| <= 2%:R * `|z - y|.
Proof.
apply: norm_le => [|i]; first by rewrite mulr_ge0.
have d a : is_diff a (fun z => softmax z 0 i) (fun u => (u *m softmax_curvature a) 0 i).
  exact: (is_diff_o (is_diff_softmax a) (is_diff_coord _ i)).
have [t _] := mean_value_segment (v := z - y) (fun t _ _ => @ex_diff _ _ _ _ _ _ _ (d (y + t *: (z - y)))).
rewrite [y + (z - y)]addrC subrK -diff_grad (@diff_val _ _ _ _ _ _ _ (d _)) mul_softmax_curvature => E.
rewrite [X in `|X|]mxE [X in _ + X]mxE E.
move: (y + _) => a; set v := z - y.
have s1 : `|softmax a 0 i| <= 1 by rewrite ger0_norm ?softmax_le1// ltW// softmax_gt0.
rewrite normrM -[leRHS]mul1r ler_pmul//.
rewrite (le_trans (ler_norm_sub _ _))// mulr_natl mulr2n ler_add ?norm_coord//.
rewrite (le_trans (ler_norm_sum _ _ _))// -[leRHS]mul1r -(sum_softmax a) mulr_suml.
by apply: ler_sum => j _; rewrite normrM gtr0_norm ?softmax_gt0// ler_pmul2l ?softmax_gt0// norm_coord.
Qed.

Lemma cross_entropy_linear_growth :
  exists C, forall z y, `|loss_gradient (@cross_entropy R n) z y| <= C * `|z - y|.
Proof. by exists 2%:R => z y; rewrite loss_gradient_cross_entropy softmax_lipschitz. Qed.

Lemma kl_linear_growth : exists C, forall z y, `|loss_gradient (@kl R n) z y| <= C * `|z - y|.
Proof. by exists 2%:R => z y; rewrite loss_gradient_kl softmax_lipschitz. Qed.
End Softmax.

Theorem softmax_serves : Softmax_serves.
Proof. by move=> R n; split; [exact: cross_entropy_serves|exact: kl_serves]. Qed.

(** ** Chosen outputs and temperature, which are linear maps of the outputs *)
Section LinearMaps.
Context {R : realType} {n m : nat}.
Implicit Types LS : 'rV[R]_m.+1 -> 'rV[R]_m.+1 -> R.

Lemma linear_map_linear_growth LS (B : 'M[R]_(n.+1, m.+1)) : imitation_loss LS ->
  (exists C, forall z y, `|loss_gradient LS z y| <= C * `|z - y|) ->
  exists C, forall z y, `|loss_gradient (fun z y => LS (z *m B) (y *m B)) z y| <= C * `|z - y|.
Proof.
move=> HLS [C growth]; have [K K0 HK] := norm_mulmx B; have [K' K'0 HK'] := norm_mulmx B^T.
exists (K' * (`|C| * K)) => z y; rewrite (loss_gradient_linear_map B HLS) (le_trans (HK' _))// -mulrA.
rewrite ler_wpmul2l// (le_trans (growth _ _))// (le_trans (ler_norm _))// normrM normr_id -mulrA ler_wpmul2l//.
by rewrite -mulmxBl.
Qed.

(** The outputs that are looked at, as a matrix. *)
Variable chosen : 'I_m.+1 -> 'I_n.+1.
Definition choice : 'M[R]_(n.+1, m.+1) := \matrix_(i, j) (i == chosen j)%:R.

Lemma choiceE (z : 'rV[R]_n.+1) : \row_j z 0 (chosen j) = z *m choice.
Proof.
apply/rowP => j; rewrite !mxE (bigD1 (chosen j))//= big1 ?addr0 => [|i /negPf ij].
  by rewrite !mxE eqxx mulr1.
by rewrite mxE ij mulr0.
Qed.

Lemma on_outputsE LS : on_outputs chosen LS = fun z y => LS (z *m choice) (y *m choice).
Proof. by apply/funext => z; apply/funext => y; rewrite /on_outputs !choiceE. Qed.

Lemma loss_gradient_on_outputs LS (z y : 'rV[R]_n.+1) : imitation_loss LS ->
  loss_gradient (on_outputs chosen LS) z y =
  loss_gradient LS (\row_j z 0 (chosen j)) (\row_j y 0 (chosen j)) *m choice^T.
Proof. by move=> HLS; rewrite on_outputsE (loss_gradient_linear_map choice HLS) !choiceE. Qed.

Lemma curvature_on_outputs LS (z : 'rV[R]_n.+1) : imitation_loss LS ->
  curvature (on_outputs chosen LS) z = choice *m curvature LS (\row_j z 0 (chosen j)) *m choice^T.
Proof. by move=> HLS; rewrite on_outputsE (curvature_linear_map choice HLS) choiceE. Qed.

Lemma on_outputs_serves LS : imitation_loss LS -> imitation_loss (on_outputs chosen LS).
Proof. by move=> HLS; rewrite on_outputsE; exact: linear_map_serves. Qed.

Lemma on_outputs_linear_growth LS : imitation_loss LS ->
  (exists C, forall z y, `|loss_gradient LS z y| <= C * `|z - y|) ->
  exists C, forall z y, `|loss_gradient (on_outputs chosen LS) z y| <= C * `|z - y|.
Proof. by move=> HLS growth; rewrite on_outputsE; exact: linear_map_linear_growth. Qed.
End LinearMaps.

Theorem chosen_outputs_serve : Chosen_outputs_serve.
Proof. by move=> R n m chosen LS; exact: on_outputs_serves. Qed.

Section Temperature.
Context {R : realType} {n : nat}.
Variables (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (T : R).
Hypothesis HLS : imitation_loss LS.

(** Both sides divided by the temperature, and the loss multiplied by its square, as in distillation. *)
Definition at_temperature (z y : 'rV[R]_n.+1) := LS (T^-1 *: z) (T^-1 *: y).
Definition distillation (z y : 'rV[R]_n.+1) := T ^+ 2 * at_temperature z y.

Lemma at_temperatureE : at_temperature = fun z y => LS (z *m T^-1%:M) (y *m T^-1%:M).
Proof. by apply/funext => z; apply/funext => y; rewrite /at_temperature !mul_mx_scalar. Qed.

Lemma curvature_at_temperature z : curvature at_temperature z = T^-1 ^+ 2 *: curvature LS (T^-1 *: z).
Proof.
rewrite at_temperatureE (curvature_linear_map T^-1%:M HLS) tr_scalar_mx.
by rewrite !mul_mx_scalar mul_scalar_mx scalerA expr2.
Qed.

Lemma temperature_linear_growth :
  (exists C, forall z y, `|loss_gradient LS z y| <= C * `|z - y|) ->
  exists C, forall z y, `|loss_gradient at_temperature z y| <= C * `|z - y|.
Proof. by rewrite at_temperatureE; exact: linear_map_linear_growth. Qed.

Theorem temperature_serves : imitation_loss at_temperature.
Proof. by rewrite at_temperatureE; exact: linear_map_serves. Qed.

Theorem distillation_serves : imitation_loss distillation.
Proof. by apply: multiple_serves; [exact: temperature_serves|exact: sqr_ge0]. Qed.

Lemma curvature_distillation z : T != 0 -> curvature distillation z = curvature LS (T^-1 *: z).
Proof.
move=> T0; rewrite (curvature_multiple _ temperature_serves) curvature_at_temperature scalerA.
by rewrite -exprMn divff// expr1n scale1r.
Qed.
End Temperature.

(** ** Neither branch is empty *)

(** One logit under a softmax says nothing: the orthogonal branch, whatever the network (fact 6). *)
Lemma softmax_one_logit (R : realType) (z : 'rV[R]_1) : softmax z = const_mx 1.
Proof.
apply/rowP => i; rewrite !mxE big_ord1 ord1 divff//.
by rewrite gt_eqF// expR_gt0.
Qed.

Theorem one_logit_orthogonal (R : realType) (p : nat) (X : finType) (w : X -> R)
    (f : X -> 'rV[R]_p.+1 -> 'rV[R]_1) (start theta0 dT : 'rV[R]_p.+1) eps :
  (forall x, differentiable (f x) start) -> d_student (weighted w) f cross_entropy start theta0 dT eps = 0.
Proof.
move=> fd; rewrite (d_studentE _ _ _ cross_entropy_serves _ fd) big1 ?oppr0// => x _.
by rewrite loss_gradient_cross_entropy !softmax_one_logit subrr mul0mx scaler0.
Qed.

(** A network whose outputs are its parameters, under squared error: the student moves along the teacher's step. *)
Theorem transfer_witness (R : realType) (p : nat) (theta0 dT : 'rV[R]_p.+1) eps :
  d_student (weighted (fun=> 1)) (fun (_ : unit) theta => theta) (squared_error (const_mx 1)) theta0 theta0 dT eps =
  (2%:R * eps) *: dT.
Proof.
have serves : imitation_loss (squared_error (const_mx 1 : 'rV[R]_p.+1)).
  by apply: squared_error_serves => i; rewrite mxE ler01.
have d (theta : 'rV[R]_p.+1) : is_diff theta id (mulmx^~ 1%:M).
  by apply: (is_diff_ext (is_diff_id theta)) => // u; rewrite mulmx1.
rewrite (d_studentE _ _ _ serves _ (fun=> @ex_diff _ _ _ _ _ _ _ (d theta0))) (big_pred1 tt) => [|[]//].
rewrite scale1r (jacobian_is_diff (d theta0)) trmx1 mulmx1 loss_gradient_squared_error.
by apply/rowP => i; rewrite !mxE mul1r -mulrN opprB addrAC subrr add0r mulrA.
Qed.

Corollary transfer_witness_positive (R : realType) (p : nat) (theta0 dT : 'rV[R]_p.+1) eps : dT != 0 -> 0 < eps ->
  0 < dot (d_student (weighted (fun=> 1)) (fun (_ : unit) theta => theta) (squared_error (const_mx 1))
    theta0 theta0 dT eps) dT.
Proof. by move=> dT0 eps0; rewrite transfer_witness dotZl mulr_gt0 ?dotvv_gt0// mulr_gt0. Qed.
